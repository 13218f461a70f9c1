"""An audio LLM, opened: a transformers network with one set of names for its insides."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, wraps
from typing import Any, NoReturn, cast

import torch
from nnsight import NNsight
from nnsight.intervention.interleaver import OutOfOrderError
from nnsight.intervention.tracer import InterleavingTracer
from nnsight.tracing.tracer import WithBlockNotFoundError

from mechaudio.arguments import check, n_of, names_arguments, shown
from mechaudio.models.adapter import Adapter, InBlocks, Stack
from mechaudio.models.batch import PromptBatch
from mechaudio.models.features import refuse_changed_torch
from mechaudio.models.grouping import padding_groups
from mechaudio.models.hearing import audio_token_id, refuse_deaf_call
from mechaudio.models.inputs import input_device
from mechaudio.models.network import Network
from mechaudio.models.processor import refuse_foreign_processor, warn_of_changed_features
from mechaudio.models.prompt import Inputs, as_prompts
from mechaudio.models.registry import adapter_for
from mechaudio.notices import ignored, warn
from mechaudio.tracing.decoding import greedy
from mechaudio.tracing.elsewhere import OF_MODEL, hook_point
from mechaudio.tracing.exchange import Exchange
from mechaudio.tracing.fused_or_rows import BATCHED, PACKED, serving
from mechaudio.tracing.head_results import OutputProjection
from mechaudio.tracing.hook_points import MODEL_POINTS
from mechaudio.tracing.local_attention import LocalAttention, attends_locally, serving_windows
from mechaudio.tracing.network_state import WRAPPERS, NetworkState, wrapped_in
from mechaudio.tracing.options import plain_options, refuse_forward, refuse_generating
from mechaudio.tracing.order import explain
from mechaudio.tracing.sdpa_calls import OwnCall, calls_sdpa, serving_calls
from mechaudio.tracing.sites import HookPointError, SiteMap, Sites, added_location, attention_location
from mechaudio.tracing.tested_versions import warn_of_untested_versions
from mechaudio.tracing.tower_noise import without_noise
from mechaudio.tracing.unsaved import hand_to_globals, names_around, warn_of_unsaved
from mechaudio.tracing.views import Block, Blocks, HookSite, Tower, Towers

#: Attributes that a model has for nnsight's sake and ours, or that do nothing on it; completion leaves them out.
_PLUMBING = frozenset(
    {
        "OVERLOAD_PREFIX", "all", "exchange", "get", "interleave", "interleaver", "iter", "parent", "path",
        "from_pretrained", "refuse_hooked", "refuse_unfit", "root", "save", "session", "site_map", "sites", "skip",
    }
)  # fmt: skip


_RESULT = "the hook point result is what each head gives without it, which would not add up to attn_out"


class AudioLM(NNsight):
    """A supported transformers network, its processor, and names for everything inside.

    The network is used as it is: it is not moved, cast, put into another mode or given other weights, and its attention
    implementation is its own again after every run.

    Attributes:
        processor: Its processor, `None` if only dicts of model inputs will be given.
        adapter: The facts about the class.
        site_map: Where every hook point lives.
        blocks: The decoder's layers.
        audio_blocks: The audio tower's layers; of several towers, the first's.
        towers: Every audio tower by name: `model.towers["beats"].blocks[3].attn.pattern`. The first is also called
            `audio`.
        checkpoint: What the network was loaded from, or its class.
        trained_choices: The choices that the model was trained to tell by ear, where it says so: `ma.prompt` warns of
            others, whose probabilities are guesses. Empty of most models; set it on a model of your own.
        revision: Commit on the hub, where there is one.
    """

    embed = HookSite("embed")
    audio_final_norm = HookSite("audio.final_norm")
    projector_out = HookSite("projector_out")
    final_norm = HookSite("final_norm")
    logits = HookSite("logits")

    @names_arguments
    def __init__(self, network: Network, processor: Any = None, *, prove: bool = True):
        """Open a network.

        Args:
            network: An instance of a supported transformers class.
            processor: The processor that belongs to it.
            prove: Overwrite every hook point once, on a second of noise, and demand that the logits move, and that the
                residual stream moves as what is added to it does. Takes some thirty short forward passes; switch it off
                for a network that is proven already.

        Raises:
            TypeError: The class has no adapter, the network is wrapped in another module, or the processor is none.
            HookPointError: A path does not resolve, overwriting a hook point changes nothing, `attn_out` or `mlp_out`
                is not what is added, or the same call twice gives two answers.
            ValueError: It is in training mode, or a part of it is compiled, wrapped, spread over processes or without
                weights; or the processor has other settings than the network's audio tower takes.

        Warns:
            UserWarning: Once per process, that the installed transformers or nnsight was not tested; that features are
                made with other settings than the class of the feature extractor has.
        """
        prove = check("prove", prove, bool)
        if processor is not None and not callable(processor):
            raise TypeError(
                f"processor= is what transformers.AutoProcessor.from_pretrained gives; got {shown(processor)}"
            )
        warn_of_untested_versions()
        if (wrapper := wrapped_in(network)) is not None:
            raise TypeError(
                f"this network is wrapped in a {type(network).__name__}, and edits would land beside what it computes: "
                f"open what is inside, {WRAPPERS[wrapper]}"
            )
        adapter = adapter_for(network)
        audio_token_id(network.config, adapter)  # raises if the config names no token for audio
        if processor is not None:
            refuse_foreign_processor(processor, network, adapter)
            warn_of_changed_features(processor)
        refuse_deaf = partial(refuse_deaf_call, adapter=adapter, config=network.config)
        # A Q-Former has modules called `output`; hook points go by paths, not by that.
        with ignored("Module '.*' has a submodule named 'output'"):
            super().__init__(
                network, interleaver=Exchange(network, adapter.decoder_module, adapter.projector, refuse_deaf)
            )
        self._state = NetworkState(network)
        self._state.refuse_unopenable()
        self.adapter = adapter
        self.processor: Any = processor
        self.checkpoint, self.revision = getattr(network.config, "name_or_path", "") or type(network).__name__, None
        self.trained_choices: tuple[str, ...] = ()
        decoder, encoder = adapter.decoder, adapter.encoder
        by_name = {name: _by_layer(network, stack, adapter) for name, stack in adapter.stacks.items()}
        stacks = list(by_name.values())
        self.site_map = SiteMap(adapter, by_name)
        opened = {name: self._open(layers, self.site_map.layers[name], name) for name, layers in by_name.items()}
        self.blocks, self.audio_blocks = opened["decoder"], opened["encoder"]
        first = {name: Tower(self.audio_blocks) for name in dict.fromkeys((adapter.tower, "audio"))}
        self.towers = Towers(first | {name: Tower(opened[name]) for name in adapter.towers})
        whole = (adapter.decoder_module, adapter.merged, adapter.unembed, adapter.projector, decoder.norm, encoder.norm)
        for path in whole:
            if path is not None:
                submodule(network, path, adapter)
        self._local = [one for layers in stacks for one in _local_attention(network, layers, adapter)]
        self._calls = [call for layers in stacks for call in _own_calls(network, layers, adapter)]
        layers = [
            (layer, stack, sites)
            for part in self.site_map.depth
            for layer, (stack, sites) in enumerate(
                zip(self.site_map.stacks[part], self.site_map.layers[part], strict=True)
            )
        ]
        self.exchange.copied = frozenset(
            sites[point].location for _, stack, sites in layers for point in stack.overwritten
        )
        self.exchange.multiplied = {
            location: (product, partial(stack.times, point, network, layer))
            for layer, stack, sites in layers
            for point in ("attn_out", "mlp_out")
            if point in sites
            for location, product in [added_location(stack, layer, point)]
            if product != location
        }
        for layer, stack, sites in layers:
            here = stack.path(layer)
            if "resid_mid" in sites and not stack.mid_norm_adds:
                self._state.shows_input_of(f"{here}.{stack.mid_norm}", sites["resid_mid"].name)
            if "result" in sites:
                hooked = [
                    partial(self._state.refuse_hooked, f"{here}.{part}", _RESULT, before=False)
                    for part in (stack.mixing, stack.attention)
                ]
                projection = OutputProjection.of(network, stack, layer, hooked)
                self.exchange.projections.update(dict.fromkeys(projection.watched, projection))
        self._served = [pair for layers in stacks for pair in _attention_modules(network, layers)]
        self._configs = [
            pair for stack in adapter.stacks.values() for pair in _attention_configs(network, stack, adapter)
        ]
        self._state.refuse_unfit()
        if prove:
            from mechaudio.tracing.check import prove_hook_points  # it runs the model that is being opened here

            prove_hook_points(self)

    def __getattr__(self, name: str) -> Any:
        """Find the network's parts and methods, and words of other libraries.

        Raises:
            AttributeError: There is none; where it is a word of other libraries, with what it is called here.
        """
        if (point := hook_point(name) if name.startswith("hook_") else None) in MODEL_POINTS:
            return getattr(self, point)
        try:
            value = super().__getattr__(name)
        except AttributeError as error:
            way = OF_MODEL.get(name)
            hint = f"here it is {way}" if way else str(error)
            raise AttributeError(f"an AudioLM has no {name!r}: {hint}", name=name, obj=self) from None
        return self._of_prompts_too(name, value) if name in ("forward", "generate") else value

    def _of_prompts_too(self, name: str, own: Callable) -> Callable:
        """The network's own `forward` or `generate`, and `ma.run` or `ma.generate` for prompts."""

        @wraps(own)
        def either(*args: Any, **kwargs: Any) -> Any:
            if _asks(args):
                from mechaudio.tracing.generation import generate  # both run this model
                from mechaudio.tracing.run import run

                return (run if name == "forward" else generate)(self, *args, **kwargs)
            return own(*args, **kwargs)

        return either

    @staticmethod
    def from_pretrained(*_args: Any, **_kwargs: Any) -> NoReturn:
        """Refuse a word of transformers.

        Raises:
            TypeError: Always, with what opens a checkpoint here.
        """
        raise TypeError(
            "AudioLM has no from_pretrained: ma.load('checkpoint') opens a name of the hub or a folder, and "
            "ma.AudioLM(network, processor) what transformers' own from_pretrained gave"
        )

    __iter__ = None  # type: ignore[assignment]  # nnsight goes through a module list so, and a network is no collection

    def __getitem__(self, key: Any) -> NoReturn:
        """Refuse to be taken for a list.

        Raises:
            TypeError: Always, with what lists the layers.
        """
        raise TypeError(f"an AudioLM is one model, not a list, and has no [{shown(key)}]: its layers are model.blocks")

    def __len__(self) -> NoReturn:
        """Refuse to be taken for a list.

        Raises:
            TypeError: Always, with what counts the layers.
        """
        raise TypeError("an AudioLM is one model, not a list, and has no length: model.n_layers counts its layers")

    def __reduce__(self) -> tuple[Callable[..., AudioLM], tuple[Any, ...]]:
        """Copy or pickle what was opened, and open it anew: an exchange serves the modules that it was built on."""
        kept = {name: getattr(self, name) for name in ("checkpoint", "revision", "trained_choices")}
        return _opened_again, (self.network, self.processor, kept)

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., AudioLM], tuple[Any, ...]]:
        """Copy or pickle as `__reduce__` does, by every protocol."""
        return self.__reduce__()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network's forward; of prompts or questions, as `ma.run` does."""
        if _asks(args):
            from mechaudio.tracing.run import run  # it runs this model

            return run(self, *args, **kwargs)
        return super().__call__(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> InterleavingTracer:
        """Nnsight's own `trace`; of prompts or questions, as `ma.trace` opens it."""
        if _asks(args) and "tracer_cls" not in kwargs:
            return trace(self, *args, **kwargs)
        return super().trace(*args, **{"tracer_cls": WatchedTracer, **kwargs})

    def __dir__(self) -> list[str]:
        """List the names of use here, for completion: our words, the network's parts, and nnsight's verbs."""
        return [name for name in super().__dir__() if name not in _PLUMBING]

    def _open(self, stacks: list[Stack], sites: list[Sites], name: str) -> Blocks:
        blocks = []
        here = {"decoder": "blocks", "encoder": "audio_blocks"}.get(name, f'towers["{name}"].blocks')
        for layer, (stack, points) in enumerate(zip(stacks, sites, strict=True)):
            closing = None if stack.end is None or stack.end.scaled_by is not None else stack.end.closing
            parts = stack.attention, stack.mixing, stack.mid_norm, stack.mlp, stack.projecting_down
            for part in (*parts, stack.attention_norm, stack.mlp_norm, *stack.gates.values(), closing):
                if part is not None:
                    submodule(self._module, f"{stack.path(layer)}.{part}", self.adapter)
            blocks.append(Block(self.exchange, points, f"{here}[{layer}]"))
        return Blocks(blocks, {"encoder": "audio tower"}.get(name, name))

    @property
    def network(self) -> Network:
        """The transformers module."""
        return self._module

    @property
    def exchange(self) -> Exchange:
        """The exchange that every value of a forward pass goes through."""
        return cast("Exchange", self.interleaver)

    @property
    def sites(self) -> Sites:
        """The hook points that exist once in the model."""
        return self.site_map.once

    @property
    def n_layers(self) -> int:
        """Layers of the decoder."""
        return len(self.blocks)

    @property
    def n_heads(self) -> int:
        """Attention heads in each layer of the decoder that has hook points in its attention."""
        return self.adapter.decoder.setting(self._module.config, "num_attention_heads")

    @property
    def n_key_value_heads(self) -> int:
        """Key-value heads in each layer of the decoder."""
        return self.adapter.decoder.setting(self._module.config, "num_key_value_heads")

    @property
    def d_model(self) -> int:
        """Width of the decoder's residual stream."""
        return self.adapter.decoder.own_config(self._module.config).hidden_size

    @property
    def device(self) -> torch.device:
        """The device for inputs: that of the input embeddings, also under a device map or offloading."""
        return input_device(self._module)

    def interleave(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the network with everything served, and leave nothing behind, whatever happens.

        Raises:
            ValueError: The network is in a state in which numbers would not be its own; see `NetworkState`.
            RuntimeError: It runs already, in this thread or another.
        """
        if not self.exchange.taken:  # nobody prepared this run: it is nnsight's own call
            with self.exchange.turn():
                return self.interleave(fn, *args, **kwargs)
        self.refuse_unfit()
        self.exchange.begin()
        try:
            with (
                self._state.hooks_inside(),
                serving(self.exchange, self._served, self._configs),
                serving_calls(self.exchange, self._calls),
                serving_windows(self.exchange, self._local),
                without_noise(self.network, self.adapter),
            ):
                return super().interleave(fn, *args, **kwargs)
        except OutOfOrderError as error:
            raise explain(error, self.exchange) from None
        finally:
            self.exchange.clear()

    def refuse_unfit(self) -> None:
        """Refuse a network that is in a state in which numbers would not be its own, as every run does.

        Raises:
            ValueError: It is in training mode, a part of it is compiled or was replaced after it was opened, or a hook
                of others is registered for all modules at once; edits were left on the model with `model.edit`; or
                torch was told to use another type or device by default (`torch.autocast`).
        """
        refuse_changed_torch()
        self._state.refuse_unfit()
        if self._edits and not self.exchange.mediators:  # a trace block shows them
            raise ValueError(
                "edits were left on this model with model.edit(), and would act unseen in every run: take them off, "
                "model.clear_edits(), or give them as interventions="
            )

    def refuse_hooked(self, path: str, why: str, *, before: bool = False) -> None:
        """Refuse forward hooks of others on a module where something is worked out without them.

        Args:
            path: The module's.
            why: What the hooks would be missing in, as a clause.
            before: Refuse hooks in front of the module, too.

        Raises:
            ValueError: There is one; the message names it.
        """
        self._state.refuse_hooked(path, why, before=before)

    @property
    def foreign_hooks(self) -> list[str]:
        """Forward hooks of others on modules of the network, which runs honour."""
        return self._state.foreign_hooks()

    def _towers(self) -> str:
        if not self.adapter.towers:
            return f"audio tower {n_of(len(self.audio_blocks), 'layer')}"
        named = {self.adapter.tower: self.audio_blocks} | {
            name: self.towers[name].blocks for name in self.adapter.towers
        }
        return "audio towers " + ", ".join(f"{name} {n_of(len(blocks), 'layer')}" for name, blocks in named.items())

    def __repr__(self) -> str:
        """The class, its size and where it is."""
        return (
            f"AudioLM({type(self._module).__name__}: {n_of(self.n_layers, 'layer')} x {n_of(self.n_heads, 'head')}, "
            f"d_model {self.d_model}; {self._towers()}; {self._module.dtype}, {self.device})"
        )


def _opened_again(network: Network, processor: Any, kept: Mapping[str, Any]) -> AudioLM:
    """Open a copied network, whose hook points were proven when it was opened first."""
    model = AudioLM(network, processor, prove=False)
    for name, value in kept.items():
        setattr(model, name, value)
    return model


def _asks(args: tuple[Any, ...]) -> bool:
    """Return whether a call of the network is given something in the place of token ids, which prompts are made of."""
    return bool(args) and not isinstance(args[0], (torch.Tensor, type(None)))


class WatchedTracer(InterleavingTracer):
    """nnsight's tracer, which also tells what its block set and did not save."""

    def execute(self, code: Any) -> None:
        """Run the block, and look at what it left."""
        frame = self.info.frame
        local, before = dict(frame.f_locals), names_around(frame)
        super().execute(code)
        hand_to_globals(frame, local)
        warn_of_unsaved(self.node, before, frame, has_read=self.envoy.exchange.has_read)


class BatchTracer(WatchedTracer):
    """A tracer that also knows the prompts: for rows and spans by name."""

    def __init__(self, *args: Any, batch: PromptBatch, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.batch = batch

    def parse(self, source: str, lineno: int) -> ast.With | ast.AsyncWith:
        """Find the `with` statement that opens this trace.

        Raises:
            WithBlockNotFoundError: There is none, or its source is not to be had.
        """
        node = super().parse(source, lineno)
        if node is None:
            raise WithBlockNotFoundError(
                "a trace runs the source of its own block, and line "
                f"{lineno} is no `with` statement of a file or a notebook cell: write `with ma.trace(model, batch):`, "
                "or use ma.run(model, batch, record=...), which needs no block"
            )
        return node

    def execute(self, code: Any) -> None:
        """Run the block with its prompts at hand, and with the network to itself."""
        exchange = self.envoy.exchange
        with exchange.turn():
            exchange.batch = self.batch
            super().execute(code)


@names_arguments
def trace(model: AudioLM, batch: Inputs, *, max_new_tokens: int | None = None, **options: Any) -> InterleavingTracer:
    """Open a trace: inside the block, read and edit hook points in the order in which the model computes them.

    ```python
    with ma.trace(model, batch):
        pattern = model.blocks[3].attn.pattern.save()
        model.blocks[4].resid_post[:, -1] += direction
        logits = model.logits.save()
    ```

    Args:
        model: The opened model.
        batch: Prompts, questions, conversations, or a dict of the network's own inputs.
        max_new_tokens: Trace a greedy generation of this many tokens instead of one forward pass; go through its steps
            with `for step in tracer.iter[:n]`. Name the end: if a generation ends before the loop does, nnsight
            warns and leaves out what follows the loop.
        **options: Passed on to the network's forward, which names them; or to its `generate`, where a prompt still has
            one continuation, made of the likeliest tokens. nnsight's `backend` is taken too.

    Returns:
        nnsight's own tracer. What is to outlive the block is marked with `.save()`; a saved tensor is the live one, so
        `.clone()` it before saving if a later line edits it.

    Raises:
        HookOrderError: A hook point was asked for after the model had passed it; the message gives the right order.
        TypeError: An option that the network would drop, or one without its name.
        ValueError: An option that would do something else than it says, or a network in a state in which numbers would
            not be its own.
        RuntimeError: The network runs already, in this thread or another.
    """
    if not isinstance(model, AudioLM):
        raise TypeError(f"model= takes an AudioLM, which ma.load gives; got {shown(model)}")
    prompts = as_prompts(model, batch)
    max_new_tokens = check("max_new_tokens", max_new_tokens, int | None)
    check("backend", options.get("backend"), Callable | None)
    given = {name: value for name, value in options.items() if name != "backend"}
    if max_new_tokens is None:
        refuse_forward("ma.trace", model.network, given, prompts.inputs)
    else:
        refuse_generating("ma.trace", given, returning=True)
    if len(padding_groups(model.adapter, prompts)) > 1:
        warn_of_leaks(model.adapter, "trace them one by one, or use ma.run, if each is to be as it is alone")
    tracer = partial(BatchTracer, batch=prompts)
    if max_new_tokens is None:
        return model.trace(**prompts.inputs, tracer_cls=tracer, **options)
    options = {**greedy(model.network), "max_new_tokens": max_new_tokens, **plain_options(options)}
    return model.trace(**prompts.inputs, tracer_cls=tracer, fn=model.network.generate, **options)


def warn_of_leaks(adapter: Adapter, advice: str) -> None:
    """Say that the clips of this batch change one another, why, and what happens about it."""
    warn(
        f"this batch holds clips of different lengths, and in {adapter.network_class} the padding of one changes "
        f"another: {adapter.leaks_padding}; {advice}"
    )


def submodule(network: Network, path: str, adapter: Adapter) -> Network:
    """The module at a path that an adapter names.

    Raises:
        HookPointError: There is none.
    """
    try:
        return network.get_submodule(path)
    except AttributeError as error:
        raise HookPointError(
            f"the adapter {adapter.family!r} expects a module at {path!r}, and this {type(network).__name__} has none "
            f"({error}). "
            "Was the network changed after it was built, or is this version of transformers older or newer than the "
            "adapter? Adapters are written for 5.23"
        ) from None


def _by_layer(network: Network, stack: Stack, adapter: Adapter) -> list[Stack]:
    """The stack as it is in each of its layers."""
    layers: list[Stack] = []
    for path in stack.paths:
        first = len(layers)
        part = stack.list_at(path, first)
        for layer in range(first, first + len(submodule(network, path, adapter))):
            layers.append(_with_its_neurons(network, part.in_layer(network.config, layer), layer))
    return layers


def _with_its_neurons(network: Network, stack: Stack, layer: int) -> Stack:
    """The stack as it is in a layer whose MLP may lack the down projection that others have."""
    if stack.down is None or "down" not in stack.absent:
        return stack
    inside = dict(network.get_submodule(stack.path(layer)).named_modules())
    return stack if stack.projecting_down in inside else replace(stack, down=None)


def _attention_modules(network: Network, layers: list[Stack]) -> list[tuple[Network, str]]:
    return [
        (network.get_submodule(f"{stack.path(layer)}.{stack.attention}"), attention_location(stack, layer))
        for layer, stack in enumerate(layers)
        if stack.attention is not None and stack.insides == "registry"
    ]


def _own_calls(network: Network, layers: list[Stack], adapter: Adapter) -> list[OwnCall]:
    calls = []
    for layer, stack in enumerate(layers):
        if not isinstance(stack.insides, InBlocks):
            continue
        path = f"{stack.path(layer)}.{stack.attention}"
        module, queries = network.get_submodule(path), submodule(network, f"{path}.{stack.insides.queries}", adapter)
        if not calls_sdpa(module):
            raise HookPointError(
                f"the adapter {adapter.family!r} expects {type(module).__name__}.forward to call "
                "F.scaled_dot_product_attention, and it does not: is this transformers version newer than the adapter?"
            )
        heads = stack.own_config(network.config).num_attention_heads
        calls.append(OwnCall(module, queries, heads, attention_location(stack, layer)))
    return calls


def _local_attention(network: Network, layers: list[Stack], adapter: Adapter) -> list[LocalAttention]:
    """The attention modules that attend within sliding windows by themselves."""
    attending = []
    for layer, stack in enumerate(layers):
        if stack.insides != "windows":
            continue
        path = f"{stack.path(layer)}.{stack.attention}"
        attention = network.get_submodule(path)
        module = next(filter(attends_locally, attention.modules()), None)
        if module is None:
            raise HookPointError(
                f"the adapter {adapter.family!r} expects {type(attention).__name__} to cut clips into blocks with "
                "_convert_to_block and _extract_block_context, and it does not: is this transformers version newer "
                "than the adapter?"
            )
        projection = submodule(network, f"{path}.{stack.output.partition('.')[0]}", adapter)
        attending.append(LocalAttention(module, projection, attention_location(stack, layer)))
    return attending


def _attention_configs(network: Network, stack: Stack, adapter: Adapter) -> list[tuple[Any, str]]:
    """Every config that a part of the stack reads its attention implementation from, and the name to put there."""
    if stack.insides == "windows":
        return []  # it takes no other implementation than its own
    around = network.get_submodule(stack.layers.rpartition(".")[0])
    owner = network.get_submodule(adapter.decoder_module) if stack is adapter.decoder else around
    name = PACKED if stack.layout == "packed" else BATCHED
    modules = [owner, around, *network.get_submodule(stack.layers).modules()]
    configs = {id(module.config): module.config for module in modules if hasattr(module, "config")}
    return [(config, name) for config in configs.values()]
