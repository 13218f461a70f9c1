"""Values that a trace block set and did not save: told, so that nobody reads yesterday's value for today's."""

from __future__ import annotations

import ast
import dis
from collections import ChainMap
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

import numpy as np
from nnsight.intervention.envoy import Envoy
from torch import Tensor

from mechaudio.notices import warn
from mechaudio.tracing.views import Blocks, View

#: What can be changed in place, so that it outlives a block without `.save()`.
_MUTABLE = (Tensor, np.ndarray, list, dict, set)
#: What a block may leave as it was before. Others, such as small integers and texts, Python shares between names, so
#: that a saved one may be the very object that was there.
_TOLD_APART = (*_MUTABLE, tuple, float)
_COUNTS = (int, complex, type(None))
#: Methods by which lists, dicts, sets and the like take something in.
_PUTS = ("add", "append", "appendleft", "extend", "insert", "put", "setdefault", "update")
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_OF_ITS_OWN = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@lru_cache
def set_globals(code: CodeType) -> frozenset[str]:
    """The names that a function sets and declares `global`."""
    return frozenset(each.argval for each in dis.get_instructions(code) if each.opname == "STORE_GLOBAL")


def names_around(frame: FrameType) -> dict[str, Any]:
    """The names that a block in this frame may set, and what they hold: local ones, and those declared `global`."""
    declared = {name: frame.f_globals[name] for name in set_globals(frame.f_code) if name in frame.f_globals}
    return {**frame.f_locals, **declared}


def hand_to_globals(frame: FrameType, local: Mapping[str, Any]) -> None:
    """Put what a block saved under a name that is declared `global` where it is read: nnsight leaves it local."""
    for name in set_globals(frame.f_code).intersection(frame.f_locals):
        if frame.f_locals[name] is not local.get(name):
            frame.f_globals[name] = frame.f_locals[name]


def warn_of_unsaved(
    block: ast.With | ast.AsyncWith, before: Mapping[str, Any], frame: FrameType, *, has_read: bool
) -> None:
    """Say that what a trace block read does not outlive it, or that a name still holds what it held before.

    What is put into a list, a dict, a tensor or an object from outside the block outlives it, and is left alone.
    """
    after = names_around(frame)
    nodes = [node for line in block.body for node in ast.walk(line)]
    saved = {part.id for line in nodes if _saves(line) for part in ast.walk(line) if isinstance(part, ast.Name)}
    stale = sorted(
        name
        for name in set(_names_set(nodes, before)) & before.keys()
        if after.get(name) is before[name]
        and (isinstance(before[name], _TOLD_APART) or (isinstance(before[name], _COUNTS) and name not in saved))
    )
    saves = any(map(_saves, nodes))
    around = ChainMap(dict(before), frame.f_globals)
    if stale:
        warn(
            f"{stale[0]!r} was set in this trace block and not saved: it still holds what it held before the block. "
            f"Mark what is to outlive a block: {stale[0]} = ... .save(), and nnsight.save(...) for a list of tensors"
        )
    elif has_read and not saves and not any(_changes_outside(node, around) for node in nodes):
        warn(
            "this trace block read hook points and saved nothing, so nothing of it is left: mark what is to outlive "
            "it with .save(), such as pattern = model.blocks[3].attn.pattern.save()"
        )


def _names_set(nodes: list[ast.AST], before: Mapping[str, Any]) -> Iterator[str]:
    """The names that are to stand for something else behind the block."""
    aside: set[ast.AST] = set()
    for node in nodes:
        if isinstance(node, (ast.For, ast.AsyncFor)):
            aside.update(ast.walk(node.target))
        elif isinstance(node, _SCOPES):
            aside.update(part for line in node.body for part in ast.walk(line))
        elif isinstance(node, _OF_ITS_OWN):
            aside.update(part for each in node.generators for part in ast.walk(each.target))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            aside.update(node.targets)
        elif isinstance(node, ast.AugAssign) and isinstance(before.get(_root(node.target)), _MUTABLE):
            aside.add(node.target)
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in aside:
            yield node.id


def _saves(node: ast.AST) -> bool:
    """Return whether a piece of the block that holds no other statement marks something with `save`."""
    if not isinstance(node, ast.stmt) or hasattr(node, "body"):
        return False
    return any("save" in (getattr(part, "attr", ""), getattr(part, "id", "")) for part in ast.walk(node))


def _changes_outside(node: ast.AST, around: Mapping[str, Any]) -> bool:
    """Return whether a piece of the block puts something into a value from outside it, the model apart."""
    if isinstance(node, ast.AugAssign):
        return isinstance(around.get(_root(node.target)), _MUTABLE)
    if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
        return _is_outside(node, around)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if isinstance(around.get(_root(node.func)), Tensor):
            return node.func.attr.endswith("_")
        return node.func.attr in _PUTS and _is_outside(node.func, around)
    return False


def _is_outside(node: ast.AST, around: Mapping[str, Any]) -> bool:
    root = _root(node)
    return root in around and not isinstance(around[root], (Envoy, View, Blocks))


def _root(node: ast.AST) -> str:
    """The name that an expression such as `kept[3].attn` begins with, blank for one that begins with none."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
