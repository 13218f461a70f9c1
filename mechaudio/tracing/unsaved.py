"""Values that a trace block set and did not save: told, so that nobody reads yesterday's value for today's."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from mechaudio.notices import warn

#: What can be changed in place, so that it outlives a block without `.save()`.
_MUTABLE = (Tensor, np.ndarray, list, dict, set)
#: What a block may leave as it was before. Others, such as small integers and texts, Python shares between names.
_TOLD_APART = (*_MUTABLE, tuple, float)
_OF_ITS_OWN = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def warn_of_unsaved(
    block: ast.With | ast.AsyncWith, before: Mapping[str, Any], after: Mapping[str, Any], *, has_read: bool
) -> None:
    """Say that what a trace block read does not outlive it, or that a name still holds what it held before.

    What is put into a list, a dict or a tensor from outside the block outlives it, and is left alone.

    Args:
        block: The source of the block.
        before: The names around it and their values before it ran.
        after: The same after it.
        has_read: Whether it read a hook point.
    """
    nodes = [node for line in block.body for node in ast.walk(line)]
    written = set(_names_set(nodes, before))
    stale = sorted(
        name for name in written if isinstance(before.get(name), _TOLD_APART) and after.get(name) is before[name]
    )
    saves = any(isinstance(node, (ast.Attribute, ast.Name)) and _named(node) == "save" for node in nodes)
    if stale:
        warn(
            f"{stale[0]!r} was set in this trace block and not saved: it still holds what it held before the block. "
            f"Mark what is to outlive a block: {stale[0]} = ... .save(), and nnsight.save(...) for a list of tensors"
        )
    elif has_read and not saves and not any(_changes_outside(node, before) for node in nodes):
        warn(
            "this trace block read hook points and saved nothing, so nothing of it is left: mark what is to outlive "
            "it with .save(), such as pattern = model.blocks[3].attn.pattern.save()"
        )


def _names_set(nodes: list[ast.AST], before: Mapping[str, Any]) -> Iterator[str]:
    """The names that are to stand for something else behind the block: no loop's, constant's or in-place ones."""
    aside: set[ast.AST] = set()
    for node in nodes:
        if isinstance(node, (ast.For, ast.AsyncFor)):
            aside.update(ast.walk(node.target))
        elif isinstance(node, _OF_ITS_OWN):
            aside.update(part for each in node.generators for part in ast.walk(each.target))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            aside.update(node.targets)
        elif isinstance(node, ast.AugAssign) and isinstance(before.get(_root(node.target)), _MUTABLE):
            aside.add(node.target)
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in aside:
            yield node.id


def _changes_outside(node: ast.AST, before: Mapping[str, Any]) -> bool:
    """Return whether a piece of the block puts something into a value from outside it."""
    if isinstance(node, ast.AugAssign):
        return isinstance(before.get(_root(node.target)), _MUTABLE)
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        return isinstance(before.get(_root(node)), _MUTABLE)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        value = before.get(_root(node.func))
        in_place = node.func.attr.endswith("_")
        return isinstance(value, (list, dict, set)) or (in_place and isinstance(value, Tensor))
    return False


def _root(node: ast.AST) -> str:
    """The name that an expression such as `kept[3].attn` begins with, blank for one that begins with none."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _named(node: ast.Attribute | ast.Name) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id
