"""Differences between audio LLM classes, as data.

Every family is one frozen `Adapter`: where its parts are, what its audio token is called, how its tokens fall in time.
Paths are relative to the transformers module and written down, never guessed; they are proven when a model is opened.

Conventions: paths are dotted, `None` says that the class has no such part; samples are at `sampling_rate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal, Protocol, runtime_checkable

from mechaudio.models.stack import End, InBlocks, Stack
from mechaudio.models.stack_kinds import (
    CONFORMER,
    CONFORMER_LAYERS,
    DECODER,
    EXPERTS,
    NORMED_LAYERS,
    WHISPER_ENCODER,
    MixedStack,
    RoundedTower,
    WaveformTower,
)
from mechaudio.showing import Shown

__all__ = [
    "CONFORMER",
    "CONFORMER_LAYERS",
    "DECODER",
    "EXPERTS",
    "NORMED_LAYERS",
    "THINKER_UP_TO_5_20",
    "WHISPER_ENCODER",
    "Adapter",
    "End",
    "InBlocks",
    "MixedStack",
    "Noise",
    "OpenedModel",
    "RoundedTower",
    "Stack",
    "TokenTiming",
    "WaveformTower",
]

LogitChange = Literal["divided_by", "multiplied_by", "softcapped_at"]
_WHERE = {"attention": "in front of attn_out", "mlp": "between resid_mid and mlp_out"}


@dataclass(frozen=True)
class TokenTiming(Shown):
    """`tokens` audio tokens are made from every `samples` samples of the recording, evenly.

    How many there are of a clip, the tower says: its convolutions and poolings make them from the frames of the feature
    extractor.

    Attributes:
        samples: Length of a chunk in samples.
        window: Samples that one encoder window holds, `None` where clips of any length are heard whole.
        long_clips: What becomes of clips past the window: the family's processor cuts them (`cut`, the rest is lost) or
            splits them (`split`, into windows); or the network has no positions for them (`refused`).
        tokens: Audio tokens made from one chunk.
        pads_to_window: Whether short clips are padded to a whole window *and* the padding becomes tokens.
        steps: `(kernel, stride, padding)` of everything between frames and tokens that changes their number.
        chunk: Frames that go through the steps on their own, `None` where a whole window does.
        hop: Samples from one frame to the next.
        shortest: Samples without which the processor fails; `None` where it takes any clip.
        beyond_mask: Frames behind those of the mask that the tower hears and counts all the same.
        always: Audio tokens of every clip, `None` where longer clips make more.
        pads_to: Samples to which the processor fills up shorter clips with silence that becomes tokens.
        counted_by: Method of the network's config that counts the audio tokens of so many frames, where the steps do
            not say it: its name, or the method itself once a network is opened.
        timeless: Why audio tokens hear no stretch of their own, `None` where they do.
    """

    samples: int
    window: int | None
    long_clips: Literal["cut", "split", "refused"]
    tokens: int = 1
    pads_to_window: bool = False
    steps: tuple[tuple[int, int, int], ...] = ((3, 2, 1), (2, 2, 0))
    chunk: int | None = None
    hop: int = 160
    shortest: int | None = None
    pads_to: int = 0
    always: int | None = None
    beyond_mask: int = 0
    counted_by: str | Callable[[int], int] | None = field(default=None, hash=False, compare=False)
    timeless: str | None = None

    def tokens_of_frames(self, frames: int, steps: int | None = None) -> int:
        """Audio tokens made from so many frames of one window, as its mask counts them.

        Args:
            frames: How many there are.
            steps: Go through the first few steps only: what is between frames and tokens.
        """
        if self.always is not None and steps is None:
            return self.always
        if callable(self.counted_by) and steps is None:
            return self.counted_by(frames)
        frames += self.beyond_mask
        whole, rest = divmod(frames, self.chunk or frames + 1)
        return whole * self._through_steps(self.chunk or 0, steps) + self._through_steps(rest, steps)

    def _through_steps(self, frames: int, steps: int | None) -> int:
        for kernel, stride, padding in self.steps[:steps]:
            frames = (frames + 2 * padding - kernel) // stride + 1 if frames > 0 else 0
        return max(frames, 0)


@dataclass(frozen=True)
class Noise(Shown):
    """Noise that a tower adds at random.

    Attributes:
        scale: Attribute of the network's config, dotted, that holds its scale.
        left_out_by: Inputs that leave it out: every run gets them unless the caller gives them otherwise.
    """

    scale: str
    left_out_by: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Adapter(Shown):
    """The facts about one class.

    Attributes:
        family: `config.model_type` of the class.
        network_class: Name of the class.
        checkpoints: Hub ids known to load into this class.
        decoder: The language model's stack, by default that of most classes.
        encoder: The audio tower's stack, likewise.
        decoder_module: Path of the language model: its `inputs_embeds` are the embeddings after the audio was put in.
        merged: Where the language model puts the audio in by itself: path of the module inside it whose output are the
            embeddings after the audio was put in.
        unembed: Path of the unembedding.
        projector: Path of the module whose output is one vector per audio token.
        projector_layout: Like a stack's: `batch` for `[clip, token, d_model]`, `packed` for all clips behind one
            another.
        timing: How audio tokens fall in time.
        features: Name of the input that carries the audio.
        features_mask: Name of the input that says which of the features are real, `None` where the class has none.
        mask_counts: What it counts: frames of the features, or the audio tokens that are made from them; or the samples
            of each window, in one number.
        frames_axis: The axis of the features along which time runs.
        leaks_padding: Why the padding of one clip changes another of the batch, `None` where it does not. Such clips
            run apart.
        leaks_below: Samples from which on it does not; `None` if clips of every length are changed.
        features_sizes: Name of the input that says how many audio tokens each clip makes, `None` where the class counts
            by itself. Its processor leaves the mask out for a single clip.
        bands: Attribute of the tower's config that says how many numbers a frame has, or whose first entry does; `None`
            where features are samples, and have no axis for it.
        also_in: Model types of larger checkpoints that hold this network inside.
        marks_time: Where the processor writes the time between the audio tokens of a clip, which then do not stand
            together: name of the input that has one row per clip.
        turns: How its chat template takes a turn: as a list of parts, or as text that opens with the audio placeholder.
        system: The system turn that the family's own examples open with, `None` for the template's default.
        sampling_rate: Samples a second that the processor expects.
        noise: The noise that its tower adds at random, `None` where it adds none.
        logits: Where logits are more than the unembedding's output: what is done to it (`divided_by` or `multiplied_by`
            a number, `softcapped_at` a cap *c*, which makes them *c* tanh(logit / *c*)) -> attribute of the network's
            config, dotted, that holds the number.
        no_shared_prefix: Why variants of a prompt cannot share what comes before their first edit; `None` where the
            layers look back only through keys and values, and take nothing else that depends on the position but
            rotary embeddings.
        one_clip: Why a prompt holds one clip at most; `None` where it may hold several.
        no_questions: Why questions cannot be written out for this class, and what to do instead; `None` where they can.
        exceptions: What does not hold of this class and holds of the others, and why; one sentence each.
        older_paths: Where modules were in older versions of transformers: the first part of a path -> that part then.
        network: Import path of the class, `package.module:Class`, or the class itself; `None` if transformers has it.
        processor: Import path of its processor's class; `None` where transformers' `AutoProcessor` finds it.
        answer: How training tokenised an answer: `joined`, in one text with the prompt, so that a letter is the token
            that the tokenizer writes behind this very prompt; or `apart`, as a text of its own.
        tower: Another name for the encoder where the class has further towers.
        towers: Further audio towers by name, in the order in which they run; they may hear the encoder's output. Their
            hook points take their name in the place of `audio`.
        features_beside: Further inputs that carry the same clips in another form, laid out as the features are -> the
            dotted attribute of the network's config that says how many numbers a frame has there.
        lengths: Name of the input that says how many samples each clip has, `None` where the class takes none.
        cuts_padding: Whether frames behind the longest clip are cut off where padding leaks; not where the encoder
            takes whole windows only. `always` where the class needs it though nothing leaks: down to whole tokens.
        parts: Hub ids known to hold parts of this network, which `mechaudio assemble` puts together.
        merging: Name of the input that says which windows each audio token is made of, `[clip, token, window]`, where
            tokens of long clips are merged by content. The network's method `merging_of` works it out.
        features_given: Further inputs with one entry per clip, or per window of one, that may be given in the place of
            something which the network works out.
        text_first: Whether training put the text of a turn in front of its clips.
        transcribes: Name of the network's method that writes a clip out in words, from samples and the processor, where
            its prompts hold such a transcript behind the audio tokens of each clip; `None` where they hold none. Its
            processor has `recogniser` and `finds_speech`, and takes `transcripts`.
    """

    family: str
    network_class: str
    checkpoints: tuple[str, ...]
    projector: str
    timing: TokenTiming
    decoder: Stack = DECODER
    encoder: Stack = WHISPER_ENCODER
    decoder_module: str = "model.language_model"
    unembed: str = "lm_head"
    projector_layout: Literal["batch", "packed"] = "batch"
    features: str = "input_features"
    features_mask: str | None = "feature_attention_mask"
    mask_counts: Literal["frames", "tokens", "samples"] = "frames"
    frames_axis: int = -1
    leaks_padding: str | None = None
    leaks_below: int | None = None
    features_sizes: str | None = None
    bands: str | None = "num_mel_bins"
    also_in: tuple[str, ...] = ()
    marks_time: str | None = None
    turns: Literal["parts", "text"] = "parts"
    system: str | None = None
    sampling_rate: int = 16_000
    merged: str | None = None
    noise: Noise | None = None
    logits: Mapping[LogitChange, str] = field(default_factory=dict, hash=False)
    no_shared_prefix: str | None = None
    one_clip: str | None = None
    no_questions: str | None = None
    exceptions: tuple[str, ...] = ()
    older_paths: Mapping[str, str] = field(default_factory=dict, hash=False)
    network: str | type | None = None
    processor: str | None = None
    answer: Literal["joined", "apart"] = "joined"
    tower: str = "audio"
    towers: Mapping[str, Stack] = field(default_factory=dict, hash=False)
    features_beside: Mapping[str, str] = field(default_factory=dict, hash=False)
    lengths: str | None = None
    cuts_padding: bool | Literal["always"] = True
    parts: tuple[str, ...] = ()
    merging: str | None = None
    transcribes: str | None = None
    features_given: tuple[str, ...] = ()
    text_first: bool = False

    def __post_init__(self) -> None:
        """Refuse names of towers that hook points could not be called by, and import paths that are none."""
        for name in (*self.towers, *([self.tower] if self.tower != "audio" else [])):
            if not name.isidentifier() or name in ("audio", "towers", "blocks", "decoder", "encoder"):
                raise ValueError(f"{name!r} cannot be the name of a tower: take a word of its own")
        if self.tower in self.towers:
            raise ValueError(f"two towers are called {self.tower!r}")
        for path in (self.network, self.processor):
            if isinstance(path, str) and path.count(":") != 1:
                raise ValueError(f"an import path is written 'package.module:Class', got {path!r}")

    def load_class(self) -> type:
        """Import the network's class.

        Raises:
            AttributeError: This version of transformers, or the module that the path names, has no such class.
        """
        if self.network is None:
            return getattr(import_module("transformers"), self.network_class)
        return _imported(self.network) if isinstance(self.network, str) else self.network

    def load_processor_class(self) -> type:
        """Import the class that reads the processor of a checkpoint."""
        return _imported(self.processor or "transformers:AutoProcessor")

    @property
    def audio_inputs(self) -> tuple[str, ...]:
        """Every input that has one entry per clip, or per window of one."""
        named = (self.features, self.features_mask, self.features_sizes, self.lengths, self.merging)
        return (*(name for name in named if name is not None), *self.features_beside, *self.features_given)

    @property
    def makes_prompts_with_network(self) -> bool:
        """Return whether making prompts runs the network: to merge audio tokens by content, or to write transcripts."""
        return self.merging is not None or self.transcribes is not None

    @property
    def always(self) -> Mapping[str, Any]:
        """Inputs that every run gets unless the caller gives them otherwise."""
        return {} if self.noise is None else self.noise.left_out_by

    @property
    def stacks(self) -> dict[str, Stack]:
        """Every list of layers: `encoder`, further towers by name, `decoder`; in the order in which they run."""
        return {"encoder": self.encoder, **self.towers, "decoder": self.decoder}

    def with_older_paths(self) -> Adapter:
        """Return the facts about the class as older versions of transformers build it."""

        def older(path: str) -> str:
            for part, then in self.older_paths.items():
                if path == part or path.startswith(f"{part}."):
                    return then + path.removeprefix(part)
            return path

        def older_stack(stack: Stack) -> Stack:
            return replace(stack, layers=older(stack.layers), norm=stack.norm and older(stack.norm))

        return replace(
            self,
            decoder=older_stack(self.decoder),
            encoder=older_stack(self.encoder),
            decoder_module=older(self.decoder_module),
            unembed=older(self.unembed),
            projector=older(self.projector),
        )

    @property
    def milliseconds(self) -> float:
        """Milliseconds of sound per audio token."""
        return 1000 * self.timing.samples / self.timing.tokens / self.sampling_rate

    @property
    def access(self) -> str:
        """The way to the insides of the audio tower's attention."""
        if self.encoder.attention is None:
            return "convolutions"
        if isinstance(self.encoder.insides, InBlocks):
            return "own call, blocks"
        if self.encoder.insides == "windows":
            return "own code, windows"
        return "packed windows" if self.encoder.layout == "packed" else "whole clips"

    @property
    def caveats(self) -> tuple[str, ...]:
        """All that does not hold of this class and holds of others: what it refuses, what runs apart, the rest."""
        said = self.exceptions
        if self.leaks_padding is not None:
            shorter = "" if self.leaks_below is None else f" shorter than {self.leaks_below / self.sampling_rate:g} s"
            said = (
                f"clips{shorter} of different lengths change one another in a batch ({self.leaks_padding}). `ma.run`, "
                "`ma.generate` and every analysis run such rows apart, with one warning, and give what the rows give "
                "alone",
                *said,
            )
        named = {"encoder": "tower", "decoder": "decoder"}
        for name, stack in reversed(self.stacks.items()):
            where = named.get(name, f"tower {name}")
            gaps = [f"{_WHERE[gap]}, {what}" for gap, what in stack.between.items()]
            if stack.z_times is not None:
                said = (
                    *said,
                    f"in the {where}, the output projection takes the product of z and {stack.z_times}. result is made "
                    "of this product",
                )
            if stack.end is not None:
                gaps.append(f"behind mlp_out, {stack.end.does}")
            if gaps:
                more = "; ".join(gaps)
                said = (*said, f"in the {where}, a layer does more than add to its residual stream: {more}")
        if self.encoder.layout == "packed":
            said = (*said, "no gradient arrives at the tower's resid_mid, which is shown as a view")
        if self.one_clip is not None:
            said = (*said, f"a prompt holds one clip at most: {self.one_clip}")
        if self.no_questions is not None:
            said = (f"`ma.prompt` takes no questions for it: {self.no_questions}", *said)
        return said


@runtime_checkable
class OpenedModel(Protocol):
    """A network together with what prompts for it are made with; an `AudioLM` is one.

    Attributes:
        network: A network of a class of transformers, or of one that was registered.
        processor: Its processor, None if only dicts of model inputs are given.
        adapter: The facts about the class.
    """

    @property
    def network(self) -> Any:
        """The network."""

    @property
    def processor(self) -> Any:
        """Its processor."""

    @property
    def adapter(self) -> Adapter:
        """The facts about its class."""
        ...


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


#: Up to transformers 5.20, the thinkers of Qwen-Omni hold decoder and tower side by side, without a model around them.
THINKER_UP_TO_5_20 = {"model.language_model": "model", "model.audio_tower": "audio_tower"}
