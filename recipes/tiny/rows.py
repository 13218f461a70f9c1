"""Packed training rows: one clip, many questions about it, one pass.

A row is the shared prefix (system turn, audio) followed by independent blocks, each the rest of one prompt with its
answer. A mask keeps blocks from seeing each other and positions restart after the prefix, so that every block is
exactly what the chat template yields for its question alone. Unused places hold PAD: hidden from all, and skipped in
the count of positions.

Which positions of a block may look at the audio is drawn per clip, with the odds given (`HEARERS`). Trained without
such masks the option tokens do all the listening and the last token none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from mechaudio.data.temporal_phrases import EVERYDAY_PHRASES, KEYWORDS, PHRASES, TASKS
from mechaudio.models.tiny import language
from mechaudio.models.tiny.language import FIRST_CLASS, FIRST_LETTER, PAD, TURN_END, VOCABULARY, ids
from recipes.tiny.captions import caption_tokens, time_token
from recipes.tiny.questions import MAX_OPTIONS, Choices, best_letter, draw_choices
from recipes.tiny.scenes import MAX_EVENTS, Scenes, on_device

IGNORED = -100
SYSTEM = ids(language.SYSTEM_TURN)
HEADER = ids(language.AUDIO_HEADER)
FOOTER = ids(language.AUDIO_FOOTER)
ANSWER = ids(language.ANSWER_HEADER)
AUDIO_START = len(SYSTEM) + len(HEADER)
AUDIO_STOP = AUDIO_START + language.MAX_AUDIO_TOKENS
PREFIX = AUDIO_STOP + len(FOOTER)
PHRASE_WIDTH = max(len(ids(p)) for table in (PHRASES, EVERYDAY_PHRASES) for phrases in table.values() for p in phrases)
CAPTION_WIDTH = 2 + 6 * MAX_EVENTS
CHOICE_WIDTH = PHRASE_WIDTH + 3 * MAX_OPTIONS + len(ANSWER) + 1
DESCRIBE_WIDTH = max(len(ids(phrase)) for phrase in language.DESCRIBE_PHRASES)

WIDTHS = {
    "audio": CHOICE_WIDTH,
    "caption": CAPTION_WIDTH + CHOICE_WIDTH,
    "audio+caption": CAPTION_WIDTH + CHOICE_WIDTH,
    "describe": DESCRIBE_WIDTH + len(ANSWER) + 6 * MAX_EVENTS,
    "time": len(ids(language.TIME_PHRASES[0].format("hum"))) + len(ANSWER) + 1,
}
KINDS = tuple(WIDTHS)
BLOCKS = ("audio",) * 6 + ("caption",) * 2 + ("audio+caption", "describe") + ("time",) * 4
HEARERS = ("last", "tail", "keyword", "all", "others")
"""Who hears the clip: the last prompt token; the last three (the answer header); these and the keyword; every position;
every position but the last."""


@dataclass(frozen=True)
class Layout:
    """Where the blocks lie in a row of `length` places (a multiple of 8)."""

    blocks: tuple[tuple[str, int, int], ...]
    """Kind, start, stop."""
    length: int


def layout(kinds: Sequence[str] = BLOCKS) -> Layout:
    """Blocks one after another behind the prefix."""
    blocks, start = [], PREFIX
    for kind in kinds:
        blocks.append((kind, start, start + WIDTHS[kind]))
        start += WIDTHS[kind]
    return Layout(tuple(blocks), -(-start // 8) * 8)


@dataclass(frozen=True, eq=False)
class Rows:
    """Token ids, the ids to predict at each place (`IGNORED` elsewhere), and which places may look at the audio."""

    ids: Int[Tensor, "batch position"]
    targets: Int[Tensor, "batch position"]
    hears: Bool[Tensor, "batch position"]
    asked: tuple[dict[str, Tensor], ...]
    """Per block: task, letter, clear (and told, the letter by the caption, where captions contradict)."""


def _padded(token_ids: list[int], width: int) -> list[int]:
    return [PAD] * (width - len(token_ids)) + token_ids


class RowBuilder:
    """Builds rows of a layout on a device."""

    def __init__(self, plan: Layout, device: str) -> None:
        self.plan = plan
        fixed = partial(torch.tensor, device=device)
        self._phrases, self._everyday = (
            fixed([[_padded(ids(phrase), PHRASE_WIDTH) for phrase in table[task]] for task in TASKS])
            for table in (PHRASES, EVERYDAY_PHRASES)
        )
        self._describe = fixed([_padded(ids(p), DESCRIBE_WIDTH) for p in language.DESCRIBE_PHRASES])
        self._time = fixed([ids(p.format("hum")) for p in language.TIME_PHRASES])
        self._time_hole = fixed([ids(p.format("hum")).index(VOCABULARY["hum"]) for p in language.TIME_PHRASES])
        self._prefix = fixed(SYSTEM + HEADER + [language.AUDIO] * language.MAX_AUDIO_TOKENS + FOOTER)
        self._answer, self._caption = fixed(ANSWER), fixed(ids("Caption:"))
        self._silence = fixed(ids("silence."))
        self._keywords = fixed([VOCABULARY[word] for word in (*KEYWORDS.values(), "first", "last")])
        block = torch.full((plan.length,), -2)
        block[: len(SYSTEM)], block[len(SYSTEM) : PREFIX] = -1, 0
        self._spans_audio = torch.zeros(plan.length, dtype=torch.bool)
        self._spans_audio[AUDIO_START:PREFIX] = True
        self._no_audio_at_all = torch.zeros(plan.length, dtype=torch.bool)
        for number, (kind, start, stop) in enumerate(plan.blocks, 1):
            block[start:stop] = number
            self._no_audio_at_all[start:stop] = kind == "caption"
        starts = fixed([0, *(start for _, start, _ in plan.blocks)])
        self._block = block.to(device)
        self._start = starts[self._block.clamp(min=0)]
        self._spans_audio, self._no_audio_at_all = self._spans_audio.to(device), self._no_audio_at_all.to(device)

    def build(
        self,
        scenes: Scenes,
        generator: torch.Generator,
        *,
        silent: Bool[Tensor, " batch"],
        hearers: Mapping[str, float],
        subjects: Mapping[str, Scenes] = MappingProxyType({}),
        told: Scenes | None = None,
        benchmark: bool = False,
    ) -> Rows:
        """Rows for a batch of scenes.

        Args:
            scenes: what the clips hold.
            generator: draws questions, options, phrases and masks.
            silent: rows whose clip is replaced by zeros.
            hearers: odds of who hears the clip, by the names in `HEARERS`; descriptions are always heard by all.
            subjects: per kind of block, the scenes that captions and answers go by, where not `scenes`.
            told: what captions say, where not what answers go by.
            benchmark: questions as in the benchmark (`draw_choices`), canonical phrases, complete captions.
        """
        batch = len(silent)
        parts = [self._prefix.expand(batch, -1)]
        targets, hears, asked = [torch.full_like(parts[0], IGNORED)], [torch.ones_like(parts[0], dtype=torch.bool)], []
        for kind, _, _ in self.plan.blocks:
            if kind == "describe":
                made = self._describe_block(scenes, silent, generator)
            elif kind == "time":
                made = self._time_block(scenes, silent, generator, hearers)
            else:
                subject = subjects.get(kind, scenes)
                made = self._choice_block(kind, subject, told or subject, generator, hearers, benchmark)
            for store, part in zip((parts, targets, hears, asked), made, strict=True):
                store.append(part)
        room = self.plan.length - sum(part.shape[1] for part in parts)
        return Rows(
            pad(torch.cat(parts, 1), (0, room), value=PAD),
            pad(torch.cat(targets, 1), (0, room), value=IGNORED),
            pad(torch.cat(hears, 1), (0, room), value=False),
            tuple(asked),
        )

    def positions_and_bias(
        self,
        rows_ids: Int[Tensor, "batch position"],
        hears: Bool[Tensor, "batch position"],
        audio_tokens: Int[Tensor, " batch"],
    ) -> tuple[Int[Tensor, "batch position"], Float[Tensor, "batch 1 position position"]]:
        """Positions as the single prompts have them, and the additive mask (0 or -1e4)."""
        block, place = self._block, torch.arange(self.plan.length, device=rows_ids.device)
        in_audio = (place >= AUDIO_START) & (place < AUDIO_STOP)
        valid = (rows_ids != PAD) & (~in_audio | (place < AUDIO_START + audio_tokens[:, None]))
        ranks = valid.long().cumsum(1)
        before = torch.cat([torch.zeros_like(ranks[:, :1]), ranks[:, :-1]], 1)
        own_start = before.gather(1, self._start.expand_as(ranks))
        prefix = torch.where(
            self._no_audio_at_all, len(SYSTEM), len(SYSTEM) + len(HEADER) + len(FOOTER) + audio_tokens[:, None]
        )
        positions = torch.where(block > 0, prefix + before - own_start, before)
        query, key = block[:, None], block[None, :]
        same = (query == key) & (place[:, None] >= place[None, :])
        header = (key == -1) | ((key == 0) & ~self._spans_audio[None, :] & ~self._no_audio_at_all[:, None])
        header = header & (query >= 0) & (query != key)
        audio = self._spans_audio[None, :] & (query > 0) & ~self._no_audio_at_all[:, None]
        seen = (same | header)[None] | (audio[None] & hears[:, :, None])
        seen = (seen & valid[:, None, :]) | (place[:, None] == place[None, :])
        bias = torch.zeros(seen.shape, device=seen.device, dtype=torch.bfloat16).masked_fill(~seen, -1e4)
        return positions, bias[:, None]

    def _choice_block(
        self,
        kind: str,
        scenes: Scenes,
        told: Scenes,
        generator: torch.Generator,
        hearers: Mapping[str, float],
        benchmark: bool,
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        device, batch = generator.device, len(scenes.count)
        task = torch.randint(3, (batch,), generator=generator, device=device)
        choices = draw_choices(scenes, task, generator, benchmark=benchmark)
        asked = {"task": task, "letter": choices.letter, "clear": choices.clear}
        clear = choices.clear
        if kind != "audio":
            letter_told, clear_told = best_letter(told, task, choices, torch.full_like(scenes.onset[:, 0], 0.5))
            asked |= {"told": letter_told, "told_clear": clear_told & clear}
        phrase = self._phrases[
            task, torch.randint(self._phrases.shape[1], (batch,), generator=generator, device=device)
        ]
        everyday = self._everyday[
            task, torch.randint(self._everyday.shape[1], (batch,), generator=generator, device=device)
        ]
        wording = torch.rand(batch, 1, generator=generator, device=device)
        phrase = torch.where(wording < 0.15, everyday, torch.where(wording < 0.5, phrase, self._phrases[task, 0]))
        if benchmark:
            phrase = self._phrases[task, 0]
        parts = [phrase, self._option_tokens(choices)]
        if kind != "audio":
            parts = [self._caption.expand(batch, -1), caption_tokens(told, generator, complete=benchmark), *parts]
        letter = FIRST_LETTER + choices.letter
        x = torch.cat([*parts, self._answer.expand(batch, -1), letter[:, None]], 1)
        y = torch.full_like(x, IGNORED)
        y[:, -2] = torch.where(clear, letter, IGNORED)
        y[:, -1] = torch.where(clear, TURN_END, IGNORED)
        return x, y, self._hears(x, generator, hearers), asked

    def _option_tokens(self, choices: Choices) -> Int[Tensor, "batch 18"]:
        letters = FIRST_LETTER + torch.arange(MAX_OPTIONS, device=choices.labels.device).expand_as(choices.labels)
        tokens = torch.stack([letters, torch.full_like(letters, VOCABULARY[":"]), FIRST_CLASS + choices.labels], -1)
        offered = torch.arange(MAX_OPTIONS, device=tokens.device) < choices.count[:, None]
        return tokens.masked_fill(~offered[..., None], PAD).flatten(1)

    def _hears(
        self, x: Int[Tensor, "batch width"], generator: torch.Generator, hearers: Mapping[str, float]
    ) -> Bool[Tensor, "batch width"]:
        to_go = torch.arange(x.shape[1] - 1, -1, -1, device=x.device).expand_as(x)
        last, tail = to_go <= 1, to_go <= len(ANSWER)
        keyword, everyone = tail | torch.isin(x, self._keywords), torch.ones_like(tail)
        kinds = torch.stack([last, tail, keyword, everyone, to_go != 1], 1)
        odds = on_device(tuple(hearers.get(name, 0.0) for name in HEARERS), x.device).expand(len(x), -1)
        drawn = torch.multinomial(odds, 1, generator=generator)
        return kinds.gather(1, drawn[:, :, None].expand(-1, -1, x.shape[1]))[:, 0]

    def _describe_block(
        self, scenes: Scenes, silent: Bool[Tensor, " batch"], generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        batch = len(silent)
        caption = caption_tokens(scenes, generator, complete=True)
        nothing = pad(self._silence, (0, caption.shape[1] - len(self._silence)), value=PAD)
        caption = torch.where(silent[:, None], nothing, caption)
        phrase = self._describe[
            torch.randint(len(self._describe), (batch,), generator=generator, device=generator.device)
        ]
        x = torch.cat([phrase, self._answer.expand(batch, -1), caption], 1)
        after = pad(x[:, 1:], (0, 1), value=PAD)
        y = torch.where(after == PAD, TURN_END, after).masked_fill(x == PAD, IGNORED)
        y[:, : DESCRIBE_WIDTH + len(ANSWER) - 1] = IGNORED
        return x, y, torch.ones_like(x, dtype=torch.bool), {}

    def _time_block(
        self, scenes: Scenes, silent: Bool[Tensor, " batch"], generator: torch.Generator, hearers: Mapping[str, float]
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        device, batch = generator.device, len(silent)
        odds = on_device((0.3, 0.3, 0.25, 0.15), device).expand(batch, -1)
        form = torch.multinomial(odds, 1, generator=generator)[:, 0]
        event = (torch.rand(batch, generator=generator, device=device) * scenes.count).long()[:, None]
        there = torch.rand(batch, generator=generator, device=device) < 0.5
        onset, offset, sounding = (part.gather(1, event)[:, 0] for part in (scenes.onset, scenes.offset, scenes.labels))
        absent = scenes.labels[:, MAX_EVENTS]
        label = torch.where((form == 3) & ~there, absent, sounding)
        question = self._time[form].scatter(1, self._time_hole[form][:, None], (FIRST_CLASS + label)[:, None])
        times = time_token(torch.stack([onset, offset, offset - onset], 1))
        yes_no = torch.where(there & ~silent, VOCABULARY["yes"], VOCABULARY["no"])
        answer = torch.cat([times, yes_no[:, None]], 1).gather(1, form[:, None])[:, 0]
        known = ~silent | (form == 3)
        x = torch.cat([question, self._answer.expand(batch, -1), answer[:, None]], 1)
        y = torch.full_like(x, IGNORED)
        y[:, -2] = torch.where(known, answer, IGNORED)
        y[:, -1] = torch.where(known, TURN_END, IGNORED)
        return x, y, self._hears(x, generator, hearers), {"form": form, "answer": answer}
