"""A network's own inputs: putting them where it computes, and reading a plain dict of them as a batch.

For people with their own processor. What a dict does not say (which text is the question) is not guessed: its spans are
`audio`, `text` (everything else but padding) and `last`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import get_worker_info

from mechaudio.arguments import checks_arguments, n_of
from mechaudio.audio.clock import TokenClock
from mechaudio.models.adapter import Adapter, OpenedModel
from mechaudio.models.batch import PromptBatch, TokenTexts
from mechaudio.models.clips import audio_tower, bands_of, tokens_of_features, tokens_that_hear
from mechaudio.models.features import to_the_largest, unmerged
from mechaudio.models.grouping import without_excess
from mechaudio.models.hearing import audio_token_id, refuse_deaf_call
from mechaudio.models.keywords import inputs_of, refuse_unknown, tensors_of
from mechaudio.models.network import Network, device_of

_GOES_ON = "it grows with every run, so that the same call twice would give two answers: give the whole prompt"
#: What a forward pass takes beside prompts, and why it is no part of one.
_NO_INPUT = {
    "past_key_values": _GOES_ON,
    "cache": _GOES_ON,
    "inputs_embeds": "what a position is, its id says: change embeddings by ma.Edit(ma.HookPoint('embed'), change)",
    "labels": "a run has no loss: give them to ma.trace(model, inputs, labels=labels)",
    "logits_to_keep": "say which logits are kept in the call: ma.run(model, inputs, logits='last')",
    "output_attentions": "record the hook point 'pattern' instead",
    "output_hidden_states": "record the hook point 'resid_post' instead",
    "return_dict": "a run reads the logits by name",
    "use_cache": "runs keep no keys and values, and generation does",
}


def input_device(network: Network) -> torch.device:
    """Return the device for inputs: that of the input embeddings, also under a device map or offloading.

    In a worker of a `DataLoader` it is the CPU, wherever the network is: a process that was forked reaches no GPU.
    """
    if get_worker_info() is not None:
        return torch.device("cpu")
    return device_of(network.get_input_embeddings())


def place(network: Network, adapter: Adapter, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs on the network's device, features in the type of what the audio tower begins with.

    Audio Flamingo 3's tower takes features in its own type only, and fails otherwise; the others cast them themselves,
    to the same numbers. Layers that bitsandbytes keeps in 4 bits round their biases when they are first called, so that
    a bias says nothing of the convolution that takes the features.
    """
    device, tower = input_device(network), audio_tower(network, adapter)
    every = {**adapter.always, **inputs}
    placed = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in every.items()}
    features = placed.get(adapter.features)
    if isinstance(features, Tensor) and features.is_floating_point():
        matrices = (part.dtype for part in tower.parameters() if part.ndim > 1 and part.is_floating_point())
        placed[adapter.features] = features.to(next(matrices, tower.dtype))
    return placed


def merged(model: OpenedModel, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return audio inputs with what each audio token is made of, in a class that merges tokens by content.

    It is worked out clip by clip, by the network as it is, so that it does not depend on the batch. Interventions leave
    it alone: they change what tokens hold, not which windows they hear.

    Args:
        model: An opened model.
        features: Audio inputs, clips along the first axis.
    """
    name = model.adapter.merging
    if name is None or name in features or model.adapter.features not in features:
        return dict(features)
    alone = [
        {key: value[[clip]] for key, value in place(model.network, model.adapter, features).items()}
        for clip in range(len(features[model.adapter.features]))
    ]
    weights = [model.network.merging_of(**clip) for clip in alone]
    if all(one is None for one in weights):
        return dict(features)
    made = [
        unmerged(model.adapter, clip) if one is None else one.cpu() for one, clip in zip(weights, alone, strict=True)
    ]
    return {**features, name: to_the_largest(made)}


@checks_arguments
def as_batch(model: OpenedModel, batch: PromptBatch | Mapping[str, Any]) -> PromptBatch:
    """A batch for this model from whatever may stand for one.

    Args:
        model: An opened model: it has a `network`, a `processor` and an `adapter`.
        batch: Prompts made for this model, returned as they are; or the network's own inputs, left padded.

    Returns:
        Prompts whose `inputs` are on the network's device.

    Raises:
        TypeError: It is neither, or holds an input that the network does not know, or one that is no tensor.
        ValueError: It was made for another family, or for a network of this family with other token ids or other bands
            of sound; or the inputs lack ids, are padded on the right, hold placeholders without features or the
            reverse, not one placeholder per audio token, or what is no part of a prompt, such as a key-value cache; or
            a clip is longer than the network has positions for.
    """
    adapter = model.adapter
    if isinstance(batch, PromptBatch):
        _refuse_foreign(model, batch)
        _refuse_other_bands(model, batch.inputs)
        return batch
    _refuse_unknown(model, batch)
    _refuse_no_input(model, batch)
    inputs = place(model.network, adapter, {name: batch[name] for name in batch if name not in _NO_INPUT})
    ids, real = _ids_and_mask(inputs)
    _refuse_unmarked_padding(model, inputs)
    placeholder = audio_token_id(model.network.config, adapter)
    _refuse_unknown_ids(model, ids, placeholder)
    refuse_deaf_call((), inputs, adapter=adapter, config=model.network.config)
    _refuse_misshapen(adapter, inputs)
    _refuse_other_bands(model, inputs)
    _refuse_overlong(adapter, inputs)
    audio = (ids == placeholder) & real
    _refuse_miscounted(adapter, inputs, int(audio.sum()), placeholder)
    inputs = without_excess(adapter, inputs)
    sound = {name: inputs[name] for name in adapter.audio_inputs if name in inputs}
    inputs = place(model.network, adapter, {**inputs, **merged(model, sound)})
    rows = range(ids.shape[0])
    timed = [
        _timed(adapter, inputs, _where(audio[row]), clips) for row, clips in enumerate(_clips(adapter, inputs, audio))
    ]
    return PromptBatch(
        inputs=inputs,
        spans={
            "audio": tuple(heard for heard, _, _ in timed),
            "audio_padding": tuple(padding for _, padding, _ in timed),
            "text": tuple(_where(real[row] & ~audio[row]) for row in rows),
            "last": tuple((ids.shape[1] - 1,) for _ in rows),
        },
        clocks=tuple(clocks for _, _, clocks in timed),
        questions=(),
        condition=None,
        choice_ids=(),
        family=adapter.family,
        made_for=name_of(model),
        vocabulary=vocabulary_of(model.network, adapter),
        cut=tuple(0.0 for _ in rows),
        given=tuple(() for _ in rows),
        audio_token=placeholder,
        tokenizer=getattr(model.processor, "tokenizer", None),
    )


def name_of(model: OpenedModel) -> str:
    """Name a model in messages: its checkpoint, or its class where it has none."""
    return getattr(model, "checkpoint", None) or type(model.network).__name__


def vocabulary_of(network: Network, adapter: Adapter) -> int:
    """Number of token ids that a network knows."""
    return adapter.decoder.own_config(network.config).vocab_size


def _refuse_unknown(model: OpenedModel, inputs: Mapping[str, Any]) -> None:
    """Every input has a name that the network's forward pass knows: another would be dropped without a word."""
    made = getattr(model.processor, "model_input_names", None) or ()
    known = (*inputs_of(model.network), *model.adapter.always, *made)
    for name in inputs:
        refuse_unknown(f"the forward pass of {type(model.network).__name__}", name, known, kind="input")


def _refuse_no_input(model: OpenedModel, inputs: Mapping[str, Any]) -> None:
    """Every input is a tensor where the network takes one, and part of a prompt."""
    for name in _NO_INPUT.keys() & inputs.keys():
        if inputs[name] is not None:
            raise ValueError(f"{name!r} is no part of a prompt, and {_NO_INPUT[name]}; leave it out")
    for name in sorted({*tensors_of(model.network), *model.adapter.audio_inputs} & inputs.keys()):
        value = inputs[name]
        if name != "input_ids" and value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"{name!r} is a tensor, got {type(value).__name__}: have the processor give tensors, "
                "return_tensors='pt'"
            )


def _refuse_unmarked_padding(model: OpenedModel, inputs: Mapping[str, Any]) -> None:
    """Without a mask, padding is read as text."""
    ids, padding = inputs["input_ids"], getattr(model.network.generation_config, "pad_token_id", None)
    if inputs.get("attention_mask") is not None or len(ids) < 2 or padding is None:
        return
    padded = (ids[:, 0] == padding).nonzero().flatten().tolist()
    if padded and len(padded) < len(ids):
        raise ValueError(
            f"row {padded[0]} begins with the padding token ({padding}), and there is no 'attention_mask': padding "
            "would be read as text. Pass on everything that the processor gives"
        )


def _refuse_foreign(model: OpenedModel, batch: PromptBatch) -> None:
    """A batch is for every model that reads the same token ids: one network opened twice, or its fine-tuned kin."""
    adapter = model.adapter
    advice = "Make a batch for it: ma.prompt(model, questions)"
    if batch.family != adapter.family:
        raise ValueError(
            f"this batch was made for {batch.family!r}, the model is a {adapter.family!r}: token ids and features of "
            f"one mean nothing to the other. {advice}"
        )
    placeholder, vocabulary = audio_token_id(model.network.config, adapter), vocabulary_of(model.network, adapter)
    if (batch.audio_token, batch.vocabulary) != (placeholder, vocabulary):
        raise ValueError(
            f"this batch was made for {batch.made_for!r} ({batch.vocabulary} token ids, audio placeholder "
            f"{batch.audio_token}), the model is {name_of(model)!r} ({vocabulary} token ids, audio placeholder "
            f"{placeholder}): token ids of one mean nothing to the other. {advice}"
        )
    if isinstance(batch.tokenizer, TokenTexts):
        raise ValueError(f"this batch was loaded with a result, and its sound is not kept there. {advice}")
    tokenizer = getattr(model.processor, "tokenizer", None)
    if tokenizer is None or batch.tokenizer is None or tokenizer is batch.tokenizer:
        return
    if tokenizer.get_vocab() != batch.tokenizer.get_vocab():
        raise ValueError(
            f"this batch was made for {batch.made_for!r} with another vocabulary than the processor of "
            f"{name_of(model)!r} has: token ids of one mean nothing to the other. {advice}"
        )


def _refuse_other_bands(model: OpenedModel, inputs: Mapping[str, Any]) -> None:
    """Features have as many numbers in a frame as the network's tower was built for."""
    adapter = model.adapter
    features = inputs.get(adapter.features)
    if not isinstance(features, Tensor) or features.ndim != 3:
        return
    given, wanted = features.shape[1 if adapter.frames_axis == -1 else -1], bands_of(model.network, adapter)
    if given != wanted:
        raise ValueError(
            f"{adapter.features!r} {tuple(features.shape)} have {n_of(given, 'number')} in a frame, the audio tower of "
            f"{name_of(model)!r} takes {wanted}: they come from the processor of another checkpoint. Make them with "
            "its own"
        )


def _refuse_unknown_ids(model: OpenedModel, ids: Int[Tensor, "batch position"], placeholder: int) -> None:
    vocabulary = vocabulary_of(model.network, model.adapter)
    strange = ids[((ids < 0) | (ids >= vocabulary)) & (ids != placeholder)]
    if len(strange):
        raise ValueError(
            f"'input_ids' hold {int(strange[0])}, and {name_of(model)!r} knows the token ids 0 to {vocabulary - 1}: "
            "take them from its own processor"
        )


def _refuse_misshapen(adapter: Adapter, inputs: Mapping[str, Any]) -> None:
    """Features are numbers, one entry per clip, and their mask has as many."""
    features = inputs.get(adapter.features)
    if features is None:
        return
    mask = None if adapter.features_mask is None else inputs.get(adapter.features_mask)
    n_axes = (2, 3) if adapter.bands is None else (3,)
    mask_axes = 1 if adapter.mask_counts == "samples" else 2
    if features.ndim not in n_axes or (mask is not None and (mask.ndim != mask_axes or len(mask) != len(features))):
        masked = "" if mask is None else f" and {adapter.features_mask!r} {tuple(mask.shape)}"
        raise ValueError(
            f"{adapter.features!r} {tuple(features.shape)}{masked}: {adapter.network_class} takes features of "
            f"{' or '.join(map(str, n_axes))} axes, with an entry per clip, and as many entries of their mask. Take "
            "both from one call of the processor"
        )
    if not features.isfinite().all():
        raise ValueError(
            f"{adapter.features!r} hold NaN or infinity, and so would all that is made of them: look at the sound, or "
            "at what made features of it"
        )


def _refuse_overlong(adapter: Adapter, inputs: Mapping[str, Any]) -> None:
    features, timing = inputs.get(adapter.features), adapter.timing
    if features is None or timing.long_clips != "refused" or timing.window is None:
        return
    frames = features.shape[adapter.frames_axis]
    if frames * timing.hop > timing.window:
        rate = adapter.sampling_rate
        raise ValueError(
            f"{adapter.features!r} {tuple(features.shape)} hold {frames * timing.hop / rate:.1f} s, the audio tower of "
            f"{adapter.network_class} has positions for {timing.window / rate:.1f} s: cut the clip (AudioClip.cut)"
        )


def _where(mask: Bool[Tensor, " position"]) -> tuple[int, ...]:
    return tuple(mask.nonzero()[:, 0].tolist())


def _clips(adapter: Adapter, inputs: Mapping[str, Any], audio: Bool[Tensor, "batch position"]) -> list[int | None]:
    """Per row, its entry of the features, where they have one entry for each row with audio."""
    n_entries, entries = len(inputs.get(adapter.features, ())), list[int | None]()
    having = audio.any(-1).tolist()
    for row, has in enumerate(having):
        entries.append(sum(having[:row]) if has and n_entries == sum(having) else None)
    return entries


def _timed(
    adapter: Adapter, inputs: Mapping[str, Any], positions: tuple[int, ...], clip: int | None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[TokenClock, ...]]:
    """A row's positions that hear its clip, those that hear what it was filled up with, and its clock.

    No clock without audio or with several clips: other tokens stand between their audio tokens. Where a processor
    writes the time between the tokens of one clip, the input with a row per clip tells them apart. How long the clip
    is, the input of lengths says, or the mask of frames where there is none.
    """
    apart = any(after != before + 1 for before, after in pairwise(positions))
    one_each = len(inputs.get(adapter.marks_time, ())) == len(inputs["input_ids"])
    if not positions or (apart and not one_each):
        return positions, (), ()
    weights = None if adapter.merging is None or clip is None else inputs.get(adapter.merging)
    merging = None if weights is None else weights[clip].cpu()
    seconds = None
    mask = None if adapter.features_mask is None else inputs.get(adapter.features_mask)
    if clip is not None and adapter.lengths in inputs:
        seconds = int(inputs[adapter.lengths][clip]) / adapter.sampling_rate
    elif clip is not None and mask is not None and adapter.mask_counts != "tokens":
        hop = adapter.timing.hop if adapter.mask_counts == "frames" else 1
        seconds = int(mask[clip].sum()) * hop / adapter.sampling_rate
    hearing, filled, clock = tokens_that_hear(adapter, positions, seconds or None, merging)
    return hearing, filled, (clock,)


def _ids_and_mask(inputs: Mapping[str, Any]) -> tuple[Tensor, Bool[Tensor, "batch position"]]:
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or 0 in ids.shape or ids.dtype not in (torch.int64, torch.int32):
        got = f"a {type(ids).__name__}" if not isinstance(ids, Tensor) else f"shape {tuple(ids.shape)} of {ids.dtype}"
        raise ValueError(
            f"inputs need 'input_ids' [batch, position], whole numbers; got {got} and the keys {sorted(inputs)}"
        )
    positions = inputs.get("position_ids")
    if positions is not None and (
        positions.shape[-1:] != ids.shape[-1:]
        or positions.shape[-2:-1] not in ((1,), (len(ids),))
        or positions.is_floating_point()
    ):
        raise ValueError(
            f"'position_ids' {tuple(positions.shape)} of {positions.dtype} must be whole numbers, as many as "
            f"'input_ids' {tuple(ids.shape)} in every row: where prompts are made longer by hand, let "
            "their positions count on, or leave 'position_ids' out"
        )
    mask = inputs.get("attention_mask")
    if mask is None:
        return ids, torch.ones_like(ids, dtype=torch.bool)
    if tuple(mask.shape) != tuple(ids.shape):
        raise ValueError(f"'attention_mask' {tuple(mask.shape)} must have the shape of 'input_ids' {tuple(ids.shape)}")
    real = mask.bool()
    if not real.any(-1).all():
        raise ValueError(f"row {int((~real.any(-1)).nonzero()[0])} is all padding: 'attention_mask' has no 1 in it")
    if not bool((real[:, 1:] >= real[:, :-1]).all() and real[:, -1].all()):
        row = int((~real[:, -1] | (real[:, 1:] < real[:, :-1]).any(-1)).nonzero()[0])
        raise ValueError(
            f"row {row} is padded on the right or in the middle, so that 'last' is not its last token. Pad on the "
            "left: processor.tokenizer.padding_side = 'left' before the processor is called"
        )
    return ids, real


def _refuse_miscounted(adapter: Adapter, inputs: Mapping[str, Any], placeholders: int, audio_token: int) -> None:
    """One placeholder per audio token: some classes take fewer without a word and drop the rest of the audio."""
    features = inputs.get(adapter.features)
    if features is None:
        return
    mask = None if adapter.features_mask is None else inputs.get(adapter.features_mask)
    single = adapter.features_sizes is not None and len(features) == 1
    if adapter.features_mask is not None and mask is None and not single:
        raise ValueError(
            f"{adapter.features!r} came without {adapter.features_mask!r}, which tells {adapter.network_class} how "
            "much of them is sound. Pass on everything that the processor gives (return_attention_mask=True)"
        )
    made = tokens_of_features(adapter, features, mask)
    if made != placeholders:
        raise ValueError(
            f"input_ids hold {n_of(placeholders, 'audio placeholder')} (id {audio_token}), but {adapter.features!r} "
            f"{tuple(features.shape)} make {n_of(made, 'audio token')}: there must be one placeholder per token. Take "
            "both from one call of the processor"
        )
    sizes = None if adapter.features_sizes is None else inputs.get(adapter.features_sizes)
    if adapter.features_sizes is not None and (sizes is None or int(sizes.sum()) != made):
        reason = "are missing" if sizes is None else f"say {sizes.tolist()}"
        raise ValueError(
            f"{adapter.features_sizes!r} {reason}, and {adapter.features!r} {tuple(features.shape)} make {made} audio "
            "tokens: pass on everything that the processor gives"
        )
