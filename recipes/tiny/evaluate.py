"""How the tiny model behaves: `python -m recipes.tiny.evaluate`.

On a CPU, through the transformers library alone. Questions come from `mechaudio.data.soundscapes` with seeds that
training never uses. Every share stands with its Wilson 95% interval. The output is Markdown, as in docs/tiny_model.md.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

from mechaudio.data.soundscapes import questions
from mechaudio.data.temporal_phrases import TASKS
from mechaudio.metrics.significance import wilson_interval
from mechaudio.models.tiny import WEIGHTS
from mechaudio.models.tiny.language import ANSWER_HEADER, AUDIO, FIRST_LETTER, LETTERS, VOCABULARY, ids
from mechaudio.question import AudioQuestion

CONDITIONS = ("audio", "silence", "caption", "audio+caption")
NEVER = torch.finfo(torch.float32).min
_BATCH = 16


@dataclass(frozen=True)
class AttentionBias:
    """`bias` on the attention scores from `queries` to `keys`, in every layer; by default a cut.

    Both name rows of the prompt: audio, question, keyword, options, last, "answer header" (the last three), "all text".
    """

    keys: str
    queries: str
    bias: float = NEVER


EDITS = (
    AttentionBias("audio", "last"),
    AttentionBias("audio", "answer header"),
    AttentionBias("audio", "keyword"),
    AttentionBias("audio", "question"),
    AttentionBias("audio", "options"),
    AttentionBias("audio", "all text"),
    AttentionBias("options", "last"),
    AttentionBias("question", "last"),
    AttentionBias("keyword", "last"),
    AttentionBias("audio", "last", bias=1.0),
    AttentionBias("audio", "last", bias=2.0),
    AttentionBias("audio", "last", bias=-2.0),
)


@dataclass(frozen=True)
class Share:
    """`hits` out of `n`."""

    hits: int
    n: int

    def __str__(self) -> str:
        low, high = wilson_interval(self.hits, self.n)
        return f"{100 * self.hits / self.n:.1f} ({100 * low:.0f}-{100 * high:.0f})"


class TinyModel:
    """Network and processor, asked as any Qwen2-Audio is."""

    def __init__(self, folder: Path = WEIGHTS) -> None:
        self.network = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    def inputs(self, asked: Sequence[AudioQuestion], condition: str, text: str | None = None) -> dict[str, Tensor]:
        """What the network receives, padded on the left.

        Args:
            asked: the questions.
            condition: one of `CONDITIONS`.
            text: asked instead of the questions' own text, without options.
        """
        prompts, waves = [], []
        for question in asked:
            words = text or "\n".join(
                [
                    question.text,
                    *(f"{letter}: {choice}" for letter, choice in zip(LETTERS, question.choices, strict=False)),
                ]
            )
            if "caption" in condition:
                words = f"Caption: {question.caption}\n{words}"
            content: list[dict[str, str]] = [{"type": "text", "text": words}]
            if condition != "caption":
                clip = question.clip()
                waves.append((clip.silence() if condition == "silence" else clip).mono(16_000))
                content.insert(0, {"type": "audio", "audio_url": question.id})
            turns = [{"role": "user", "content": content}]
            prompts.append(self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
        sound: dict[str, Any] = {"audio": waves, "sampling_rate": 16_000} if waves else {}
        return dict(self.processor(text=prompts, padding=True, return_tensors="pt", **sound))

    @torch.no_grad()
    def letter_logits(
        self, asked: Sequence[AudioQuestion], condition: str, edit: AttentionBias | None = None
    ) -> Float[Tensor, "question letter"]:
        """Logits of the six letters after the prompt, with attention edited where an edit is given."""
        found = []
        for first in range(0, len(asked), _BATCH):
            part = asked[first : first + _BATCH]
            inputs = self.inputs(part, condition)
            if edit is not None:
                inputs["attention_mask"] = _biased(inputs, [q.meta["keyword"] for q in part], edit)
            logits = self.network(**inputs, use_cache=False).logits[:, -1]
            found.append(logits[:, FIRST_LETTER : FIRST_LETTER + len(LETTERS)])
        return torch.cat(found)

    def choices(self, asked: Sequence[AudioQuestion], condition: str, edit: AttentionBias | None = None) -> list[str]:
        """The choice with the largest letter logit, per question."""
        logits = self.letter_logits(asked, condition, edit)
        return [q.choices[int(row[: len(q.choices)].argmax())] for q, row in zip(asked, logits, strict=True)]

    @torch.no_grad()
    def describe(self, question: AudioQuestion) -> str:
        """The model's own account of a clip."""
        inputs = self.inputs([question], "audio", text="Describe the sound events.")
        out = self.network.generate(**inputs, max_new_tokens=48, do_sample=False)
        return self.processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _biased(
    inputs: dict[str, Tensor], keywords: Sequence[str], edit: AttentionBias
) -> Float[Tensor, "question 1 query key"]:
    """The causal mask, as numbers added to the scores, with the edit in it."""
    tokens, padding = inputs["input_ids"], inputs["attention_mask"]
    length = tokens.shape[1]
    place = torch.arange(length)
    seen = (place[:, None] >= place) & padding[:, None, :].bool()
    added = torch.zeros(seen.shape)
    for row, keyword in enumerate(keywords):
        audio = tokens[row] == AUDIO
        start, header = int(audio.nonzero().max()) + 2, length - len(ids(ANSWER_HEADER))
        colons = (tokens[row] == VOCABULARY[":"]).nonzero().flatten()
        options = int(colons[colons > start][0]) - 1
        named = {
            "audio": audio,
            "question": (place >= start) & (place < options),
            "keyword": (tokens[row] == VOCABULARY[keyword]) & (place >= start) & (place < options),
            "options": (place >= options) & (place < header),
            "last": place == length - 1,
            "answer header": place >= header,
            "all text": place >= start - 1,
        }
        added[row] = edit.bias * (named[edit.queries][:, None] & named[edit.keys][None, :])
    return added.masked_fill(~seen, NEVER)[:, None]


def _right(said: Sequence[str], asked: Sequence[AudioQuestion]) -> Share:
    return Share(sum(a == q.answer for a, q in zip(said, asked, strict=True)), len(asked))


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"


def _head(*cells: str) -> str:
    return _row(*cells) + _row(*("---" for _ in cells))


def by_condition(model: TinyModel, n: int, seed: int) -> Iterator[str]:
    """Accuracy per task and condition, and whom the model believes when caption and sound disagree."""
    yield _head("% right (95%)", *TASKS, "all")
    asked = questions(n, seed)
    for condition in CONDITIONS:
        said = model.choices(asked, condition)
        per_task = [_right(said[i :: len(TASKS)], asked[i :: len(TASKS)]) for i in range(len(TASKS))]
        yield _row(condition, *per_task, _right(said, asked))
    asked = questions(n, seed + 1, conflict=True)
    said = model.choices(asked, "audio+caption")
    for name, truth in (("caption", [q.meta["caption_answer"] for q in asked]), ("sound", [q.answer for q in asked])):
        hits = [a == t for a, t in zip(said, truth, strict=True)]
        per_task = [Share(sum(hits[i :: len(TASKS)]), len(hits[i :: len(TASKS)])) for i in range(len(TASKS))]
        yield _row(f"conflict: follows the {name}", *per_task, Share(sum(hits), len(hits)))


def by_setting(model: TinyModel, n: int, seed: int) -> Iterator[str]:
    """Accuracy from the sound, and with silence, under other settings of the benchmark."""
    yield _head("setting", "audio", "silence")
    settings: list[tuple[str, dict[str, Any]]] = [
        (
            "2 to 3 s, margin 0.5 s, 2 choices",
            {"duration": (2.0, 3.0), "margin": 0.5, "n_events": (2, 3), "n_choices": 2},
        ),
        ("3 to 5 s, margin 0.5 s", {"duration": (3.0, 5.0), "margin": 0.5}),
        ("5 to 8 s", {"duration": (5.0, 8.0)}),
        ("8 to 10 s", {"duration": (8.0, 10.0)}),
        *((f"{count} choices", {"n_choices": count}) for count in (2, 3, 5, 6)),
        ("paraphrases", {"paraphrase": "random"}),
        ("noise -30 to -20 dB", {"noise": (-30.0, -20.0)}),
        ("noise -20 to -10 dB", {"noise": (-20.0, -10.0)}),
        ("noise 0 to 6 dB", {"noise": (0.0, 6.0)}),
        ("margin 2 s", {"margin": 2.0}),
    ]
    for number, (name, setting) in enumerate(settings):
        asked = questions(n, seed + number, **setting)
        yield _row(name, _right(model.choices(asked, "audio"), asked), _right(model.choices(asked, "silence"), asked))


def by_edit(model: TinyModel, n: int, seed: int) -> Iterator[str]:
    """Accuracy when some rows of the prompt cannot look at others, or look harder, in every layer."""
    asked = questions(n, seed)
    clean = [said == q.answer for said, q in zip(model.choices(asked, "audio"), asked, strict=True)]
    yield _head("attention", "% right (95%)", "mended", "broken")
    yield _row("as it is", Share(sum(clean), n), 0, 0)
    for edit in EDITS:
        right = [said == q.answer for said, q in zip(model.choices(asked, "audio", edit), asked, strict=True)]
        what = "cut" if edit.bias == NEVER else f"{edit.bias:+g}"
        mended, broken = (sum(b > a for a, b in zip(*pair, strict=True)) for pair in ((clean, right), (right, clean)))
        yield _row(f"{edit.keys} to {edit.queries}: {what}", Share(sum(right), n), mended, broken)


def of_descriptions(model: TinyModel, n: int, seed: int) -> Iterator[str]:
    """Events named in free descriptions, and how many of those with both times within half a second."""
    named = real = found = close = 0
    for question in questions(n, seed):
        text = model.describe(question)
        told = {m[1]: (float(m[2]), float(m[3])) for m in re.finditer(r"(\w+) from (\d+\.\d) to (\d+\.\d)", text)}
        events = {event.label: (event.onset, event.offset) for event in question.events}
        named, real = named + len(told), real + len(events)
        both = told.keys() & events.keys()
        found += len(both)
        close += sum(max(abs(a - b) for a, b in zip(told[k], events[k], strict=True)) <= 0.75 for k in both)
    yield _head("descriptions", "% (95%)")
    yield _row("events of the clip that are named", Share(found, real))
    yield _row("named events that are in the clip", Share(found, named))
    yield _row("named rightly, both times within 0.75 s", Share(close, found))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.tiny.evaluate", description="Evaluate the tiny model.")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=WEIGHTS, help="a Hugging Face folder (default: as shipped)"
    )
    parser.add_argument("--n", type=int, default=600, help="questions in the first table")
    parser.add_argument("--seed", type=int, default=90_000)
    given = parser.parse_args(arguments)
    model = TinyModel(given.folder)
    tables = (
        by_condition(model, given.n, given.seed),
        by_setting(model, given.n // 3, given.seed + 100),
        by_edit(model, given.n // 2, given.seed + 200),
        of_descriptions(model, given.n // 10, given.seed + 300),
    )
    for table in tables:
        for line in table:
            sys.stdout.write(line)
            sys.stdout.flush()
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
