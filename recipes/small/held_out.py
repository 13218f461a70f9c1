"""Questions about scenes, recordings and voices that training never met, and how the assembled model answers them.

Five sets: `soundscapes` and `soundscapes in noise` as `ma.data.soundscapes` makes them, `recordings` (samples and
stretches of recordings kept apart, among them speech by voices kept apart), `voices` (words spoken by such voices) and
`open` (times and transcriptions, written out). Conditions: the clip, zeros of its length, the caption alone, both, and
both where the caption contradicts the clip.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scenes import (
    EASY,
    LETTERS,
    TASKS,
    Bank,
    draw_events,
    present,
    render,
    rounded,
    speech_scene,
    temporal,
    when,
    with_choices,
)
from transformers import Qwen2AudioProcessor

from mechaudio.audio.events import Event
from mechaudio.audio.soundscape import describe
from mechaudio.data import soundscapes
from mechaudio.data.soundscapes import winner
from mechaudio.data.temporal_phrases import PHRASES

SETS = ("soundscapes", "soundscapes in noise", "recordings", "voices", "open")
SEED = 101
_TRIES = 400


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        name: Of the set.
        task: Such as `earliest_onset`.
        wave: The clip.
        texts: The question as it is asked in each condition.
        answer: A letter, or a text where the question is open.
        claim: The letter that the contradicting caption stands for.
        n_choices: How many; 0 where the question is open.
        source: Where the sound of the right answer comes from.
    """

    name: str
    task: str
    wave: np.ndarray
    texts: dict[str, str]
    answer: str
    claim: str | None = None
    n_choices: int = 0
    source: str = ""


def item(bank: Bank, name: str, index: int) -> Item:
    """Question `index` of a set."""
    if name.startswith("soundscapes"):
        return _soundscape(name, index)
    if name == "recordings":
        return _recordings(bank, index)
    if name == "voices":
        return _voices(bank, index)
    return _open(bank, index)


def _soundscape(name: str, index: int) -> Item:
    noise = (-10.0, 0.0) if name.endswith("noise") else (-30.0, -10.0)
    asked = soundscapes.question(index, SEED, conflict=True, noise=noise)
    texts = {
        "audio": with_choices(asked.text, asked.choices),
        "caption": with_choices(asked.text, asked.choices, describe(asked.events)),
        "conflict": with_choices(asked.text, asked.choices, asked.caption),
    }
    claim = LETTERS[asked.choices.index(asked.meta["caption_answer"])]
    letter = LETTERS[asked.choices.index(asked.answer)]
    wave = np.asarray(asked.audio.waveform, np.float32).reshape(-1)
    return Item(name, asked.meta["task"], wave, texts, letter, claim, len(asked.choices), "synthetic")


def _recordings(bank: Bank, index: int) -> Item:
    rng = np.random.default_rng([index, 991])
    task = (*TASKS, "present")[index % 4]
    heard, known = bank.labels("test"), bank.labels("train")
    for _ in range(_TRIES):
        seconds = round(float(rng.uniform(5, 10)), 2)
        events = draw_events(rng, heard, seconds, int(rng.integers(2, 5)))
        if task == "present":
            made = present(rng, events, known, count=4)
        else:
            made = temporal(rng, events, known, task, margin=1.0, count=4, phrase=PHRASES[task][0])
        if made is None:
            continue
        asked, choices = made
        label = choices[LETTERS.index(asked.answer)]
        other = _contradicting(rng, events, choices, task, label)
        if other is None:
            continue
        told, claim = other
        texts = {
            "audio": asked.text,
            "caption": f"Caption: {describe(events)}\n{asked.text}",
            "conflict": f"Caption: {describe(told)}\n{asked.text}",
        }
        wave = render(bank, events, seconds, rng, "test", EASY)
        source = next(
            row["kind"] for row in [*bank.rows, {"label": label, "kind": "speech"}] if row.get("label") == label
        )
        return Item("recordings", task, wave, texts, asked.answer, LETTERS[choices.index(claim)], 4, source)
    raise ValueError(f"no scene for question {index} after {_TRIES} tries")


def _contradicting(
    rng: np.random.Generator, events: Sequence[Event], choices: Sequence[str], task: str, label: str
) -> tuple[tuple[Event, ...], str] | None:
    """Events for a caption that has another answer: times dealt anew, or another of the choices named."""
    if task == "present":
        claim = str(rng.choice([choice for choice in choices if choice != label]))
        return tuple(Event(claim if e.label == label else e.label, e.onset, e.offset) for e in events), claim
    named = winner(rounded(events), task, 0.5)
    if named is None or named.label != label:
        return None
    for _ in range(50):
        dealt = rng.permutation(len(events))
        told = [Event(e.label, events[i].onset, events[i].offset) for e, i in zip(events, dealt, strict=True)]
        told = tuple(sorted(told, key=lambda event: event.onset))
        claim = winner(rounded(told), task, 0.5)
        if claim is not None and claim.label != label and claim.label in choices:
            return told, claim.label
    return None


def _voices(bank: Bank, index: int) -> Item:
    for attempt in range(_TRIES):
        wave, asked = speech_scene(bank, 50_000 + index + 100_000 * attempt, "test")
        spoken = [question for question in asked if question.kind == "spoken"]
        if spoken:
            text, letter, kind = spoken[index % 2]
            return Item("voices", kind, wave, {"audio": text}, letter, None, text.count("\n"), "speech")
    raise ValueError(f"no words for question {index} after {_TRIES} tries")


def _open(bank: Bank, index: int) -> Item:
    if index % 2:
        wave, asked = speech_scene(bank, 70_000 + index, "test")
        return Item("open", "transcribe", wave, {"audio": asked[0].text}, asked[0].answer, source="speech")
    asked = soundscapes.question(index, SEED + 1, noise=(-30.0, -10.0))
    rng = np.random.default_rng([index, 992])
    event = asked.events[int(rng.integers(len(asked.events)))]
    kind = (index // 2) % 3
    text, answer = when(event, kind)
    texts = {"audio": text, "caption": f"Caption: {describe(asked.events)}\n{text}"}
    wave = np.asarray(asked.audio.waveform, np.float32).reshape(-1)
    return Item("open", ("start", "end", "how long")[kind], wave, texts, answer, source="synthetic")


CONDITIONS = {  # of each: which text is asked, and what is played
    "audio": ("audio", "clip"),
    "silence": ("audio", "zeros"),
    "caption": ("caption", None),
    "audio+caption": ("caption", "clip"),
    "conflict": ("conflict", "clip"),
}


@torch.no_grad()
def answers(
    network: torch.nn.Module, processor: Qwen2AudioProcessor, items: Sequence[Item], condition: str, rows: int
) -> list[str]:
    """What the network answers: the likeliest letter of the choices, or the written text of an open question."""
    which, played = CONDITIONS[condition]
    device, dtype = network.device, network.dtype
    said: list[str] = []
    for at in range(0, len(items), rows):
        part = items[at : at + rows]
        clip = [] if played is None else [{"type": "audio", "audio": "clip"}]
        prompts = [
            processor.apply_chat_template(
                [{"role": "user", "content": [*clip, {"type": "text", "text": item.texts[which]}]}],
                add_generation_prompt=True,
                tokenize=False,
            )
            for item in part
        ]
        if played is None:
            inputs = processor.tokenizer(prompts, return_tensors="pt", padding=True)
        else:
            waves = [np.zeros_like(item.wave) if played == "zeros" else item.wave for item in part]
            inputs = processor(text=prompts, audio=waves, sampling_rate=16_000, return_tensors="pt", padding=True)
        inputs = {k: v.to(device, dtype) if v.is_floating_point() else v.to(device) for k, v in inputs.items()}
        if part[0].n_choices:
            logits = network(**inputs).logits[:, -1]
            letters = [processor.tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS]
            said += [
                LETTERS[int(row[letters[: item.n_choices]].argmax())] for row, item in zip(logits, part, strict=True)
            ]
        else:
            out = network.generate(**inputs, max_new_tokens=40, do_sample=False)
            said += processor.tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def evaluate(
    network: torch.nn.Module, processor: Qwen2AudioProcessor, items: Sequence[Item], rows: int = 64
) -> list[dict]:
    """Ask everything in every condition and count.

    Returns:
        A row for each set, task, source and condition (and for all tasks of a set together): how many were right of how
        many, the Wilson interval, and in a conflict how many followed the caption.
    """
    counts: dict[tuple[str, ...], list[tuple[bool, bool]]] = {}
    for name in SETS:
        of_set = [item for item in items if item.name == name]
        for condition, (which, _) in CONDITIONS.items():
            asked = [item for item in of_set if which in item.texts]
            for item, said in zip(asked, answers(network, processor, asked, condition, rows), strict=True):
                counted = right(item, said), said == item.claim
                for key in ((name, item.task, item.source), (name, "all", "all")):
                    counts.setdefault((*key, condition), []).append(counted)
    table = []
    for (name, task, source, condition), counted in counts.items():
        good, total = sum(ok for ok, _ in counted), len(counted)
        row = {"set": name, "task": task, "source": source, "condition": condition, "right": good, "n": total}
        row["interval"] = wilson(good, total)
        if condition == "conflict":
            row["follow the caption"] = sum(follows for _, follows in counted)
        table.append(row)
    return table


def right(item: Item, said: str) -> bool:
    """The letter; the time to half a second; or the words, whatever their case and punctuation."""
    if item.n_choices:
        return said == item.answer
    if item.task == "transcribe":
        return _words(said) == _words(item.answer)
    number = said.strip().rstrip(".")
    return number.replace(".", "", 1).isdigit() and abs(float(number) - float(item.answer)) <= 0.5


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def wilson(good: int, total: int) -> tuple[float, float]:
    """The 95% interval of a share."""
    z, share = 1.96, good / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return round(middle - half, 4), round(middle + half, 4)
