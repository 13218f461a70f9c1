"""States of a network in which the same call twice gives two answers, or edits land elsewhere; and hooks of others.

A run is refused in those that it cannot be right in: training mode, compiled or wrapped parts, parts that were put in
or replaced after the network was opened, weights that are not there, hooks for all modules at once. Forward hooks of
others on single modules are honoured: a hook point shows what the module gives *after* them, which is what goes on
through the network, and edits come behind them. Where a module's input is what a hook point shows, or its weights are
read in the place of what it gives, a hook would come between, and is refused by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from nnsight.intervention.source import STATE, Controller
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.modules import module as torch_modules

#: Classes that put a network, or a part of it, inside another module; and how to get it out.
WRAPPERS = {
    "OptimizedModule": "its _orig_mod",
    "DataParallel": "its .module",
    "DistributedDataParallel": "its .module",
    "FullyShardedDataParallel": "its .module, loaded whole",
    "DeepSpeedEngine": "its .module",
    "PeftModel": "get_base_model(), which keeps the adapter in place, or merge_and_unload()",
}
#: Who registers hooks that belong to a network as it runs, and leave values as they are or where they belong.
_OURS = ("transformers", "accelerate", "torch", "mechaudio", "nnsight", "peft")
#: PyTorch's modules that give something else in training mode.
_IN_TRAINING = (
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._NormBase,
    nn.RReLU,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)
#: What modules call the projection that mixes what their heads give; the heads' z is shown before it.
_MIXING = ("o_proj", "out_proj", "to_out", "post")
_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")


def wrapped_in(module: object) -> str | None:
    """The class that wraps a network, if this is one; by name, as its package may not be installed."""
    names = {cls.__name__ for cls in type(module).__mro__}
    return next((name for name in WRAPPERS if name in names), None)


class NetworkState:
    """A network's parts when it was opened, to be compared before each run."""

    def __init__(self, network: nn.Module):
        self._parts = [(name, module, dict(module._modules)) for name, module in network.named_modules()]
        self._modules = {name: module for name, module, _ in self._parts}
        self._kind = type(network).__name__
        #: Paths of modules in front of which no hook may be -> why.
        self._shown = {
            name: "the heads' z behind the hook point z: remove it (handle.remove()), or give it as an intervention, "
            "ma.Edit(ma.HookPoint('z', ...), change)"
            for name, _, _ in self._parts
            if name.rpartition(".")[2] in _MIXING
        }
        #: Forward hooks that a run took off their modules, by path.
        self._taken: dict[str, Mapping[int, Callable[..., Any]]] = {}

    def shows_input_of(self, path: str, point: str) -> None:
        """Know that a hook point shows a module's input, which the network goes on with beside the module as well."""
        self._shown[path] = (
            f"what it takes and not the residual stream, which the hook point {point} reads there: remove it "
            "(handle.remove()), or register it on the module that it is about"
        )

    def refuse_hooked(self, path: str, why: str, *, before: bool) -> None:
        """Refuse hooks of others behind a module, and in front of it, that something is worked out without.

        Raises:
            ValueError: There is one; the message names it.
        """
        module = self._modules[path]
        in_front = module._forward_pre_hooks.values() if before else ()
        for hook in (*in_front, *self._taken.get(path, module._forward_hooks).values()):
            if not _is_ours(hook):
                raise ValueError(
                    f"a forward hook is on {path} ({_called(hook)}), and {why}: remove it (handle.remove()), or give "
                    "what it does as an intervention, ma.Edit(ma.HookPoint(...), change)"
                )

    def refuse_unfit(self) -> None:
        """Refuse to run in a state in which numbers would not be those of this network.

        Raises:
            ValueError: It is in one; the message names the state, the module, and what to do.
        """
        for name in _GLOBAL_HOOKS:
            for hook in getattr(torch_modules, name).values():
                if not _is_ours(hook):
                    raise ValueError(
                        f"a hook is registered for all modules at once ({_called(hook)}, in torch.nn.modules.module."
                        f"{name}): hook points cannot show what it changes. Remove it (handle.remove()), or register "
                        "it on the modules that it is for"
                    )
        for path, changed in self._shown.items():
            for hook in self._modules[path]._forward_pre_hooks.values():
                if not _is_ours(hook):
                    raise ValueError(f"a hook in front of {path} ({_called(hook)}) may change {changed}")
        for path, module, parts in self._parts:
            of = ""
            if module.training and _draws(path, module):
                why = (
                    "is in training mode, in which the same call twice gives two answers (dropout, statistics of the "
                    "batch): call model.network.eval()"
                )
            elif module._modules != parts:
                every = {**parts, **module._modules}
                changed = ", ".join(name for name in every if module._modules.get(name) is not parts.get(name))
                of = f"{changed} of "
                why = (
                    "was put in, replaced or taken out after the network was opened, and edits would not reach it: "
                    "open it again, AudioLM(model.network, model.processor)"
                )
            elif module._compiled_call_impl is not None:
                why = (
                    "is compiled, and edits would not reach what was compiled: run it uncompiled "
                    "(module._compiled_call_impl = None undoes module.compile())"
                )
            elif (
                type(module.__dict__.get("forward")) is not Controller
                and type(module.__dict__.get("_old_forward")) is not Controller
            ):
                of = "the forward of "
                why = (
                    "was replaced after the network was opened, and nothing of it is seen any more: put it back, or "
                    "replace it before the network is opened"
                )
            else:
                continue
            where = f"{path} ({type(module).__name__})" if path else f"this {self._kind}"
            raise ValueError(f"{of}{where} {why}")

    def refuse_unopenable(self) -> None:
        """Refuse a network that cannot be opened as it is, whatever is done to it between runs.

        Raises:
            ValueError: A part is wrapped or compiled, spread over processes, or without weights.
        """
        for path, module, _ in self._parts:
            where = path or self._kind
            if (wrapper := wrapped_in(module)) is not None:
                raise ValueError(
                    f"{where} of this {self._kind} is wrapped in a {type(module).__name__}: edits would land beside "
                    f"what it computes. Put the part itself in its place: {WRAPPERS[wrapper]}"
                )
            if hasattr(module.__dict__[STATE].original, "_torchdynamo_orig_callable") or hasattr(
                getattr(module.__dict__[STATE].original, "__wrapped__", None), "_torchdynamo_orig_callable"
            ):
                raise ValueError(
                    f"the forward of {where} is compiled: edits would not reach it. Open the network before"
                )
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(parameter, DTensor):
                    raise ValueError(
                        f"{where}.{name} is spread over processes (DTensor): heads and widths are those of a part. "
                        "Load the network whole, or over the GPUs of one process with device_map='auto'"
                    )
                if parameter.is_meta and "_hf_hook" not in module.__dict__:
                    raise ValueError(
                        f"{where}.{name} has no numbers (it is on the meta device): load the weights before the "
                        "network is opened"
                    )

    @contextmanager
    def hooks_inside(self) -> Iterator[None]:
        """While open, forward hooks of others belong to what their modules compute, so that it is served with them."""
        with ExitStack() as stack:
            stack.callback(self._taken.clear)
            for path, module, _ in self._parts:
                if module._forward_hooks and not all(map(_is_ours, module._forward_hooks.values())):
                    self._taken[path] = module._forward_hooks
                    stack.enter_context(_hooks_inside(module))
            yield

    def foreign_hooks(self) -> list[str]:
        """The hooks of others that are registered now, with their modules."""
        return [
            f"{path or self._kind}: {_called(hook)}"
            for path, module, _ in self._parts
            for hooks in (module._forward_pre_hooks, module._forward_hooks)
            for hook in hooks.values()
            if not _is_ours(hook)
        ]


@contextmanager
def _hooks_inside(module: nn.Module) -> Iterator[None]:
    state, registered = module.__dict__[STATE], module._forward_hooks
    body, theirs = state.body, {number: hook for number, hook in registered.items() if not _is_ours(hook)}
    with_keywords = set(module._forward_hooks_with_kwargs)

    def with_hooks(this: nn.Module, *args: Any, **kwargs: Any) -> Any:
        output = body(this, *args, **kwargs)
        for number, hook in theirs.items():
            if number not in registered:
                continue  # it was removed meanwhile
            changed = hook(this, args, kwargs, output) if number in with_keywords else hook(this, args, output)
            output = output if changed is None else changed
        return output

    try:
        state.body = with_hooks
        module._forward_hooks = OrderedDict(pair for pair in registered.items() if pair[0] not in theirs)
        yield
    finally:
        module._forward_hooks = registered
        if state.body is with_hooks:  # a trace block may have put in one that shows its source
            state.body = body


def _draws(path: str, module: nn.Module) -> bool:
    """Return whether training mode may change what a module gives: of PyTorch's own some may, of others any."""
    if not path or not type(module).__module__.startswith("torch."):
        return True
    return isinstance(module, _IN_TRAINING) and getattr(module, "p", 1) > 0


def _is_ours(hook: Callable[..., Any]) -> bool:
    """Return whether a hook belongs to a network as it runs, by the package that it comes from.

    One with `changes_output` set is as another's: it is part of what its module gives.
    """
    function = getattr(hook, "func", hook)  # of a functools.partial
    package = getattr(function, "__module__", None) or type(function).__module__
    return package.partition(".")[0] in _OURS and not getattr(function, "changes_output", False)


def _called(hook: Callable[..., Any]) -> str:
    function = getattr(hook, "func", hook)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', type(function).__module__)}.{name}"
