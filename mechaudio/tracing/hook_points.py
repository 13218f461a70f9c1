"""The names of the tensors in a forward pass, and the one parser of those names.

A hook point is called by its short name (`"resid_post"`, with a layer), by its address (`"blocks.3.attn.pattern"`), or
by TransformerLens's string (`"blocks.3.attn.hook_pattern"`). In the audio tower the short name takes the prefix
`audio.` and the address starts with `audio_blocks.` (or `audio.blocks.`, which is how TransformerLens would spell it).
Where a class has several towers, `audio` is the first of them; the others take their own names in its place:
`"beats.pattern"`, `"beats.blocks.3.attn.pattern"`.

Conventions: `batch position d_model` for the residual stream; `batch position head d_head` for `q k v z` and `batch
position head d_model` for `result`; `batch head query key` for `scores` and `pattern`. Names stand in the order in
which the model computes them; `q` and `k` are taken after the rotary embedding.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from mechaudio.arguments import check_fields
from mechaudio.models.positions import Where, of_rows
from mechaudio.models.registry import first_tower_names, tower_names
from mechaudio.showing import Shown

Part = Literal["decoder", "encoder"]
#: Query rows or positions: spans, positions in the padded prompt (negative ones count from its end), or one list of
#: positions per prompt.
Rows = Where

#: Inside a layer, in the order of computation -> shape and meaning.
_IN_LAYER: dict[str, tuple[str, str]] = {
    "resid_pre": ("batch position d_model", "the residual stream before the layer"),
    "q": ("batch position head d_head", "queries, after the rotary embedding"),
    "k": ("batch position kv_head d_head", "keys, after the rotary embedding, one per key-value head"),
    "v": ("batch position kv_head d_head", "values, one per key-value head"),
    "scores": ("batch head query key", "scaled query-key products before the softmax; `-inf` where a key is masked"),
    "pattern": ("batch head query key", "attention weights, after the softmax"),
    "mass": (
        "batch head query group",
        "share of attention on each group of keys, for every query, without a score matrix; read only",
    ),
    "z": ("batch position head d_head", "each head's output, before the output projection"),
    "result": (
        "batch position head d_model",
        "what each head gives: z times its slice of the output projection, without the bias",
    ),
    "attn_out": ("batch position d_model", "what attention adds to the residual stream"),
    "resid_mid": ("batch position d_model", "the residual stream right behind what attention added"),
    "mlp_post": ("batch position d_mlp", "the MLP's neurons: what goes into its down projection"),
    "mlp_out": ("batch position d_model", "what the MLP adds to the residual stream"),
    "resid_post": ("batch position d_model", "the residual stream after the layer"),
}
#: Once in a forward pass; `audio.` ones belong to the tower.
_IN_MODEL: dict[str, tuple[str, str]] = {
    "audio.final_norm": ("clip token d_model", "the tower's output after its last norm"),
    "projector_out": ("clip token d_model", "one vector per audio token, as it enters the decoder"),
    "embed": ("batch position d_model", "the decoder's input embeddings, audio vectors put in"),
    "final_norm": ("batch position d_model", "the last residual stream, normalised"),
    "logits": ("batch position vocab", "next-token logits"),
}
SHAPES: dict[str, str] = {name: shape for name, (shape, _) in (_IN_LAYER | _IN_MODEL).items()}
MEANINGS: dict[str, str] = {name: meaning for name, (_, meaning) in (_IN_LAYER | _IN_MODEL).items()}
LAYER_POINTS, MODEL_POINTS = tuple(_IN_LAYER), tuple(_IN_MODEL)
ATTENTION_POINTS: tuple[str, ...] = ("q", "k", "v", "scores", "pattern", "mass", "z", "result")
#: Those whose second-to-last axis is made of query rows.
ROW_POINTS: tuple[str, ...] = ("scores", "pattern")
#: Those that are computed for somebody who asks, and only at the rows or positions that are asked for.
MADE_POINTS: tuple[str, ...] = (*ROW_POINTS, "result")

#: TransformerLens's words where they differ from ours by more than the prefix `hook_`.
_TRANSFORMER_LENS = {
    "attn_scores": "scores", "rot_q": "q", "rot_k": "k", "normalized": "final_norm",
    "ln_final": "final_norm", "unembed": "logits", "audio_projector": "projector_out", "projector": "projector_out",
    "out": "", "mlp.post": "mlp_post",
}  # fmt: skip


@dataclass(frozen=True)
class HookPoint(Shown):
    """One named tensor, in some or all layers, whole or at some rows.

    Attributes:
        name: A short name (`"pattern"`, `"audio.resid_post"`) or a full address, which brings its own layer.
        layers: Layers, negative ones counting from the last; `None` for every layer that has it.
        queries: For `scores` and `pattern`, keep these query rows only: a span's name or positions. Nothing of size
            query x key is made then.
        positions: For the other hook points, keep these positions only. Of `result`, no others are computed.
        keys: For `mass`, the spans to measure, one group each (default: audio).
    """

    name: str
    layers: int | Sequence[int] | None = None
    queries: Rows | None = None
    positions: Rows | None = None
    keys: str | Sequence[str] = ("audio",)

    def __post_init__(self) -> None:
        """Rewrite an address into name and layer, and check the name."""
        if not isinstance(self.name, str):
            raise TypeError(f"a hook point is named by a text, such as 'resid_post'; got {self.name!r}")
        if isinstance(self.keys, str):
            object.__setattr__(self, "keys", (self.keys,))
        check_fields(self)
        if isinstance(self.layers, int):
            object.__setattr__(self, "layers", (self.layers,))
        name, layer = parse(self.name)
        if layer is not None and self.layers is not None and tuple(self.layers) != (layer,):
            raise ValueError(
                f"{self.name!r} names layer {layer}, but layers={list(self.layers)} was given too; give one of them"
            )
        object.__setattr__(self, "name", name)
        if layer is not None:
            object.__setattr__(self, "layers", (layer,))
        for field in ("layers", "keys"):
            if getattr(self, field) is not None and not len(getattr(self, field)):
                raise ValueError(f"{field}= of {name!r} is empty: name at least one, or leave it out")
        if self.point == "mass" and (self.queries is not None or self.positions is not None):
            raise ValueError(
                f"{name!r} is kept of every query: leave queries= and positions= out, and take the rows you need, such "
                "as cache['mass', 3][:, :, -1]"
            )
        if self.queries is not None and self.point not in ROW_POINTS:
            raise ValueError(
                f"queries= chooses rows of {' and '.join(ROW_POINTS)}; {name!r} has positions: use positions="
            )
        if self.positions is not None and self.point in ROW_POINTS:
            raise ValueError(f"{name!r} has query rows, not positions: use queries=")
        if self.part == "encoder" and (self.queries is not None or self.positions is not None):
            raise ValueError(
                f"queries= and positions= count positions of the prompt, and {name!r} has frames of the tower: record "
                "it whole and take what you need of it"
            )
        if name in MODEL_POINTS and self.layers is not None:
            raise ValueError(f"{name!r} exists once in the model, not per layer; leave layers= out")

    @property
    def chosen(self) -> Rows | None:
        """Its query rows or positions, whichever it has; `None` for all."""
        return self.positions if self.queries is None else self.queries

    @property
    def part(self) -> Part:
        """The half of the model that it belongs to: what makes the audio tokens, or what reads them."""
        return "encoder" if in_tower(self.name) or self.name == "projector_out" else "decoder"

    @property
    def stack(self) -> str:
        """The list of layers that it belongs to: `encoder`, `decoder`, or a further tower's name."""
        return stack_of(self.name)

    @property
    def point(self) -> str:
        """The name without the tower's prefix."""
        return bare(self.name)

    def of_rows(self, rows: Sequence[int]) -> HookPoint:
        """Keep some prompts of a batch: positions that were given per prompt are those of these prompts."""
        return replace(self, queries=of_rows(self.queries, rows), positions=of_rows(self.positions, rows))


def in_tower(name: str) -> bool:
    """Return whether a short name is that of a hook point inside an audio tower."""
    return "." in name


def bare(name: str) -> str:
    """A short name without the tower's prefix."""
    return name.rpartition(".")[2]


def stack_of(name: str) -> str:
    """The list of layers that a short name belongs to: `encoder`, `decoder`, or a further tower's name."""
    tower = name.rpartition(".")[0]
    return {"": "decoder", "audio": "encoder"}.get(tower, tower)


def prefix_of(stack: str) -> str:
    """Return the beginning of short names in a list of layers."""
    return {"decoder": "", "encoder": "audio."}.get(stack, f"{stack}.")


@lru_cache(maxsize=1024)
def parse(name: str) -> tuple[str, int | None]:
    """Split any spelling of a hook point into its short name and its layer.

    >>> parse("blocks.3.attn.hook_pattern")
    ('pattern', 3)
    >>> parse("audio.blocks.1.hook_resid_post")
    ('audio.resid_post', 1)
    >>> parse("hook_embed")
    ('embed', None)
    >>> parse("beats.blocks.2.attn.hook_q")
    ('beats.q', 2)

    Raises:
        KeyError: No such hook point; the message lists those there are.
    """
    spelled = name.replace("audio_blocks.", "audio.blocks.").removeprefix("towers.")
    tower, _, behind = spelled.partition(".")
    tower = "audio" if tower in first_tower_names() else tower
    tower, rest = (tower, behind) if tower == "audio" or tower in tower_names() else ("", spelled)
    layer = None
    if match := re.fullmatch(r"blocks\.(-?\d+)\.(.+)", rest):
        layer, rest = int(match[1]), match[2]
    words = [word.removeprefix("hook_") for word in rest.removeprefix("attn.").split(".")]
    short = ".".join(word for word in (_TRANSFORMER_LENS.get(word, word) for word in words) if word)
    short = _TRANSFORMER_LENS.get(short, short)
    short = "final_norm" if short == "final_norm.final_norm" else short
    full = f"{tower}.{short}" if tower and short != "projector_out" else short
    per_layer = short in LAYER_POINTS
    measured = short == "mass" and tower  # groups of keys are groups of prompt positions
    if (per_layer or full in MODEL_POINTS) and (layer is None or per_layer) and not measured:
        return full, layer
    raise KeyError(
        f"no hook point {name!r}. Per layer there are {', '.join(LAYER_POINTS)} (prefix 'audio.' for the tower, "
        f"{', '.join(repr(f'{other}.') for other in tower_names())} for further ones), once in the model "
        f"{', '.join(MODEL_POINTS)}; 'blocks.3.attn.hook_pattern' and 'audio.blocks.1.hook_resid_post' are understood "
        "too"
    )


def order_of(name: str, layer: int | None) -> tuple[int, int, int, int]:
    """A key that sorts hook points as the model computes them: towers, the projector, the decoder, the logits."""
    point, stack = bare(name), stack_of(name)
    if point in LAYER_POINTS:
        stage = {"encoder": 0, "decoder": 4}.get(stack, 1)
        tower = tower_names().index(stack) + 1 if stage == 1 else 0
        return (stage, tower, layer or 0, LAYER_POINTS.index(point))
    return ({"audio.final_norm": 1, "projector_out": 2, "embed": 3, "final_norm": 5, "logits": 6}[name], 0, 0, 0)


def address(name: str, layer: int | None) -> str:
    """Write the hook point as a user would in a trace block: `blocks.3.attn.pattern`."""
    if layer is None:
        return {"audio.final_norm": "audio_final_norm"}.get(name, name)
    point = bare(name)
    blocks = {"decoder": "blocks", "encoder": "audio_blocks"}.get(stack_of(name), f"{stack_of(name)}.blocks")
    return f"{blocks}.{layer}.{'attn.' if point in ATTENTION_POINTS else ''}{point}"
