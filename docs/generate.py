"""Write the pages that are made: home, hook points, models, the card of small, the command line, names, the lab log.

python docs/generate.py            # write them
python docs/generate.py --check    # say whether they are up to date; exit status 1 if not
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import safetensors

import mechaudio
from mechaudio.cli import parser
from mechaudio.cli.studies import StudyVerb
from mechaudio.metrics.significance import wilson_interval
from mechaudio.models.adapter import Adapter
from mechaudio.models.not_opened import NOT_OPENED
from mechaudio.models.registry import ADAPTERS
from mechaudio.models.small import DELTAS
from mechaudio.models.stack import Between
from mechaudio.tracing.hook_points import ATTENTION_POINTS, LAYER_POINTS, MEANINGS, MODEL_POINTS, SHAPES, address

HERE = Path(__file__).parent
WIDTH = 120
REPOSITORY = "https://github.com/mechaudio/mechaudio"


def hook_points_page() -> str:
    """The table of hook points."""
    lines = [
        "# Hook points",
        "",
        "Every tensor that can be read and edited, in the order in which the model computes them: the audio tower's "
        "layers, its norm, the",
        "projector, the decoder's layers, its norm, the logits. The page is made from the code (`python "
        "docs/generate.py`).",
        "",
        "## In every layer",
        "",
        "`model.blocks[i]` are the decoder's layers, `model.audio_blocks[i]` the audio tower's; both have the same "
        "names.",
        "",
        "| in a trace block | `record=` | TransformerLens | shape | what it is |",
        "|---|---|---|---|---|",
    ]
    for point in LAYER_POINTS:
        dotted = f"attn.{point}" if point in ATTENTION_POINTS else point
        block = "-" if point == "mass" else f"`model.blocks[i].{dotted}`"
        lens = {
            "scores": "attn.hook_attn_scores",
            "q": "attn.hook_rot_q",
            "k": "attn.hook_rot_k",
            "mlp_post": "mlp.hook_post",
            "mass": "",
        }.get(point)
        lens = lens if lens is not None else (f"attn.hook_{point}" if point in ATTENTION_POINTS else f"hook_{point}")
        lines.append(
            f"| {block} | `{point}` | {f'`blocks.i.{lens}`' if lens else '-'} | {SHAPES[point]} | {MEANINGS[point]} |"
        )
    lines += [
        "",
        "In the tower the names take the prefix `audio.` in `record=` (`audio.pattern`) and in strings "
        "(`audio.blocks.1.attn.hook_pattern`).",
        "Where a class has several towers (SALMONN, TimeAudio, DeSTA2.5-Audio, Kimi-Audio), `audio` is the first, and "
        "the others take their own names in its place:",
        '`model.towers["beats"].blocks[1].attn.pattern`, `record=["beats.pattern"]`, '
        "`beats.blocks.1.attn.hook_pattern`; `qformer` and `codes` likewise.",
        "",
        "A class need not have them all: a Mamba layer has no attention, a tower of convolutions neither attention nor "
        "`resid_mid`. Asking for",
        "one that is not there raises `NoSuchHookPoint` with the reason; `layers=None` means every layer that has it.",
        "`q` and `k` are taken after the rotary embedding, so `hook_q` and `hook_rot_q` name the same tensor here.",
        "",
        "Padding has no position: a prompt that is padded beside longer ones has the queries and keys that it has "
        "alone, in `ma.run` as in `ma.generate`:",
        "`ma.prompt` writes the `position_ids` that `generate` makes. (A dict of inputs is passed on as it is, and a "
        "forward pass without `position_ids` counts padding;",
        "its logits are the same to rounding. VibeVoice-ASR and MOSS-Transcribe-Diarize count padding in every pass, "
        "as their authors' generation does:",
        "there a change of `q` or `k` in a padded prompt is another change than in the prompt alone.)",
        "",
        "A tower that packs all clips",
        "of a batch behind one another (Qwen2.5-Omni, Qwen3-Omni, Qwen3-ASR) is shown as a batch of one; its `pattern` "
        "is block-diagonal, one block per window.",
        "Granite Speech's tower attends within blocks of 4 s, the Gemmas' within sliding windows of a dozen frames; a "
        "clip's `pattern` is whole",
        "there too, with the blocks, or a band, on its diagonal. `window_map(model, batch)`, in "
        "`mechaudio.tracing.window_map`, says for every tower",
        "which frames may see which, and whose sound they hear.",
        "",
        '`model.blocks[i].attn.at("last").pattern` and `HookPoint("pattern", queries="last")` give chosen query rows',
        "only, `[batch, head, row, key]`, and no `query x key` matrix is made. Nor is one for `mass`, which is",
        "measured beside fused attention and cannot be edited.",
        "",
        "`result` is made where it is asked for, out of what the output projection receives, and before any norm or",
        "multiplier behind attention. With the projection's bias, the heads add up to what the projection gives, and",
        "what an edit adds to one head is added there. It holds as many numbers as the residual stream *for every "
        "head*: of a",
        'model with 28 layers of 28 heads, 3584 wide, `record=["result"]` on a prompt of 1000 positions keeps 5.6 GB '
        "in bf16.",
        "",
        '`HookPoint("result", layers=[20], positions="last")` makes those layers and positions alone; in a trace block',
        "`model.blocks[20].attn.result` is that layer's at all positions. Sweeps run variants that edit it one by one.",
        "",
        "`mlp_post` are the MLP's neurons, as they go into its down projection (in a conformer, that of the second",
        "feed-forward, the one that `mlp_out` is of). Layers of experts have no such tensor, and say so.",
        "",
        "## What is added",
        "",
        "`attn_out` and `mlp_out` are what is added to the residual stream, behind every norm and multiplier that a "
        "class has there: `resid_mid` is",
        "`resid_pre + attn_out`, `resid_post` is `resid_mid + mlp_out`, to rounding, and an edit that moves what is "
        "added moves the stream by as",
        "much. In these classes a layer does more to its stream; `resid_mid` is right behind what attention added all "
        "the same, and edits move",
        "the stream behind each addition by as much. Opening a network proves it.",
        "",
        "| class | layers of the | in front of `attn_out` | between `resid_mid` and `mlp_out` | behind `mlp_out` |",
        "|---|---|---|---|---|",
        *_more_than_added(),
        "",
        "## Once in the model",
        "",
        "| in a trace block | `record=` | shape | what it is |",
        "|---|---|---|---|",
    ]
    for point in MODEL_POINTS:
        lines.append(f"| `model.{address(point, None)}` | `{point}` | {SHAPES[point]} | {MEANINGS[point]} |")
    return "\n".join(lines) + "\n"


def _more_than_added() -> list[str]:
    """A row for every stack whose layers do more than add."""
    return [
        f"| `{adapter.network_class}` | {where} | "
        + " | ".join(stack.between.get(gap, "-") for gap in get_args(Between))
        + f" | {'-' if stack.end is None else stack.end.does} |"
        for adapter in ADAPTERS
        for stack, where in ((adapter.encoder, "tower"), (adapter.decoder, "decoder"))
        if stack.between or stack.end
    ]


def models_page() -> str:
    """The table of supported classes."""
    lines = [
        "# Models",
        "",
        "mechaudio opens these classes. Below each stand checkpoints that are known to be of it. The page is made from "
        "the adapters",
        "(`python docs/generate.py`), and `mechaudio models` prints the same list.",
        "",
        "- [Adding a model](adding_a_model.md) shows how to write an adapter for another class of transformers.",
        "- [A class of your own](own_class.md) shows how to open a class that transformers does not have. "
        "[SALMONN and TimeAudio](salmonn.md),",
        "  [DeSTA2.5-Audio](desta.md) and [Kimi-Audio](kimi.md) are such classes. Their authors publish parts, which "
        "`mechaudio assemble` puts together.",
        "- [The shipped model](tiny_model.md), [the toy](toy.md) and [the model of real parts](small_model.md) come "
        "with mechaudio. All three are of",
        "  Qwen2-Audio's class.",
        "",
        "The columns say how much sound one audio token stands for, how long a stretch the audio tower hears at once, "
        "and what becomes of a longer",
        "clip. The last one says how mechaudio reaches the tower's attention:",
        "",
        "- `whole clips`: through transformers' attention functions, over `[clip, frame, d_model]`.",
        "- `packed windows`: through the same functions, with all clips one behind the other.",
        "- `own call, blocks`: the tower calls PyTorch's fused attention itself, on blocks of frames.",
        "- `own code, windows`: the tower attends in sliding windows with code of its own.",
        "- `convolutions`: the tower has no attention.",
        "",
        "Hook points have the same names and shapes in all of them.",
        "",
        "| class, checkpoints | ms per audio token | encoder window | longer clips | audio tower |",
        "|---|---|---|---|---|",
        *(_row(adapter) for adapter in ADAPTERS),
    ]
    lines += [
        "",
        "## The systems of the papers that mechaudio follows",
        "",
        "The table says what opens each system, and what was proven of it. No full-size weights were at hand: "
        "everything was tried on small",
        "networks of the same classes.",
        "",
        "| paper | system | opens with | proven |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in SYSTEMS),
        "",
        "mechaudio does not open LTU and GAMA, with which TimeAudio's tables compare. The Gemini models are closed.",
    ]
    lines += ["", "## Not opened, and why", "", "| class | why not |", "|---|---|"]
    lines += [f"| `{name}` | {why} |" for name, why in NOT_OPENED.items()]
    lines += ["", "## What does not hold of a class"]
    for adapter in ADAPTERS:
        if adapter.caveats:
            lines += ["", f"`{adapter.network_class}`:", "", *(f"- {_caveat(said)}" for said in adapter.caveats)]
    return "\n".join(lines) + "\n"


#: A name in the code: one with an underscore or of these objects, with the call or value that follows it.
_NAME = re.compile(r"(?<![\w.])(?:(?:config|ma|network|processor)\.\w+|\w*_\w+)(?:\([^)]*\)|='\w+')?")


def _caveat(said: str) -> str:
    """A caveat as a sentence, with the names of code in its letters."""
    parts = said.split("`")
    parts[::2] = (_NAME.sub(r"`\g<0>`", text) for text in parts[::2])
    marked = "`".join(parts)
    return f"{marked}." if re.match(r"`|logits|z\b", marked) else _sentence(marked)


_TEMPORAL = "A Closer Look at Failure Modes in Temporal Understanding (2606.17417)"
_OWN = "every hook point, when it is opened"
_AUTHORS = f"{_OWN}; numbers of the authors' code on the same small weights"
#: Paper, system, what opens it, and what was proven how.
SYSTEMS = (
    (_TEMPORAL, "Audio Flamingo 3", '`ma.load("nvidia/audio-flamingo-3-hf")`', _OWN),
    (
        _TEMPORAL,
        "DeSTA2.5-Audio",
        "`mechaudio assemble desta …`, then `ma.load(FOLDER)`",
        f"{_AUTHORS}: encoder states, 64 audio tokens, embedded prompts, logits, greedy answers of six prompts",
    ),
    (
        _TEMPORAL,
        "Kimi-Audio",
        "`mechaudio assemble kimi …`, then `ma.load(FOLDER)`",
        f"{_AUTHORS}: embedded prompts, both trunks and both heads of four prompts, codes of three clips",
    ),
    (_TEMPORAL, "Qwen2-Audio", '`ma.load("Qwen/Qwen2-Audio-7B-Instruct")`', _OWN),
    ("MATA (2509.18816)", "Qwen2.5-Omni", '`ma.load("Qwen/Qwen2.5-Omni-7B")`', _OWN),
    ("MATA (2509.18816)", "Ke-Omni-R", '`ma.load("KE-Team/Ke-Omni-R")`', _OWN),
    (
        "TimeAudio (2511.11039)",
        "TimeAudio",
        "`mechaudio assemble timeaudio …`, then `ma.load(FOLDER)`",
        f"{_AUTHORS}: tokens before and after merging, loss of an answer with markers",
    ),
    (
        "TimeAudio (2511.11039)",
        "SALMONN",
        "`mechaudio assemble salmonn …`, then `ma.load(FOLDER)`",
        f"{_AUTHORS}: filterbank, both encoders, Q-Former, audio tokens, logits",
    ),
    ("Audio-specialist heads", "Qwen2-Audio", '`ma.load("Qwen/Qwen2-Audio-7B-Instruct")`', _OWN),
    ("Audio-specialist heads", "R1-AQA", '`ma.load("mispeech/r1-aqa")`', _OWN),
)


def _row(adapter: Adapter) -> str:
    timing = adapter.timing
    named = [*(f"`{name}`" for name in adapter.checkpoints), *(f"parts: `{name}`" for name in adapter.parts)]
    names = "<br>".join([f"**`{adapter.network_class}`**", *named])
    window = "any length" if timing.window is None else f"{timing.window / adapter.sampling_rate:g} s"
    if timing.pads_to_window or timing.pads_to:
        least = "it" if timing.pads_to_window else f"{timing.pads_to / adapter.sampling_rate:.3g} s"
        window += f", short clips padded into {least}"
    longer = {"cut": "refused, or cut when allowed", "split": "split into windows", "refused": "refused"}[
        timing.long_clips
    ]
    longer = "-" if timing.window is None else longer
    milliseconds = "-" if timing.timeless is not None else f"{adapter.milliseconds:.4g}"
    return f"| {names} | {milliseconds} | {window} | {longer} | {adapter.access} |"


def names_page() -> str:
    """The public names, room by room."""
    lines = [
        "# Public names",
        "",
        "What `import mechaudio as ma` reaches; anything else may move. The page is made from the code (`python "
        "docs/generate.py`).",
        "",
        "| name | module |",
        "|---|---|",
        *(f"| `ma.{name}` | `{mechaudio._homes[name]}` |" for name in sorted(mechaudio._homes, key=str.lower)),
    ]
    for room in sorted({*mechaudio.__all__} - {*mechaudio._homes, "__version__"}):
        names = ", ".join(f"`{name}`" for name in getattr(mechaudio, room).__all__)
        lines += ["", f"## `ma.{room}`", "", names]
    return "\n".join(lines) + "\n"


def command_line_page() -> str:
    """Every sub-command with its options, from the parser."""
    lines = [
        "# The command line",
        "",
        "`pip install -e .` in a clone puts `mechaudio` on the path; after `make demo` it is `.venv/bin/mechaudio`. "
        "The page is made from",
        "the parser (`python docs/generate.py`), and `mechaudio COMMAND --help` prints the same options.",
        "",
        "| command | does |",
        "|---|---|",
    ]
    (verbs,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    told = {pseudo.dest: pseudo.help for pseudo in verbs._get_subactions()}
    studies = [f"`{name}`" for name, verb in verbs.choices.items() if _is_study(verb)]
    lines += [f"| [`{name}`](#{name}) | {_sentence(told[name])} |" for name in verbs.choices]
    lines += [
        "",
        *textwrap.wrap(
            "`mechaudio --version` says which version this is. `mechaudio --completion SHELL` prints a script that "
            "completes verbs, options and paths in bash, zsh or fish (`pip install 'mechaudio[completion]'`):",
            WIDTH,
        ),
        "",
        "```bash",
        "mechaudio --completion bash >> ~/.bash_completion",
        "mechaudio --completion zsh > ~/.zsh/_mechaudio           # a folder in $fpath",
        "mechaudio --completion fish > ~/.config/fish/completions/mechaudio.fish",
        "```",
        "",
        *textwrap.wrap(
            "With `--json` a verb prints one JSON object on stdout and nothing else there. Its keys: `verb`; "
            "`mechaudio`, the version; `rows`, a list of objects, which are those of the result's `to_pandas()` "
            "(of `check` the proofs, of `models` the classes); `tables`, those of a study by name, as in "
            "`tables/*.json`; `provenance`, the checkpoint, seed, settings and versions; `page` and `results`, "
            "what was written and where.",
            WIDTH,
        ),
        "",
        *textwrap.wrap(
            "`check` adds `holds`, `evaluate` its counts (`n`, `right`, `accuracy`, "
            "`interval`, `tasks`, `variants` and others), `listen` `choice` (of an open question, what was "
            "written), `silence_choice`, `unchanged_choice` (without `interventions`), `correct`, `cut`, "
            "`unreadable`, `guesses` (choices that the model was never "
            "trained to hear, where it says so) and `interventions`. What is NaN, "
            "infinite or not there is null. A mistake leaves stdout empty.",
            WIDTH,
        ),
        "",
        "Results go to stdout, everything else to stderr. The exit code is 0; 1 if `check` finds a proof that fails; 2 "
        "for a mistake",
        "of the user's, which is told in one message; 130 after Ctrl-C and 143 after SIGTERM, with how to go on. A "
        "traceback and exit",
        "code 1 are a mistake of ours: please report it. What took long is kept if a disk fills behind it.",
        "",
        "The studies",
        f"({', '.join(studies[:-1])} and {studies[-1]}) leave a folder: `index.html`, `tables/`, `figures/`, and "
        "`results/`,",
        "which [`ma.Result.load`](keeping_results.md) reads.",
    ]
    options = {name: _options(verb) for name, verb in verbs.choices.items()}
    asking = [rows for rows in options.values() if "`--data NAME`" in rows]
    shared = {flag: said for flag, said in asking[0].items() if all(rows.get(flag) == said for rows in asking)}
    for name, rows in options.items():
        verb = verbs.choices[name]
        examples = [line.strip() for line in verb.epilog.splitlines()[1:]]
        lines += [
            "",
            f"## {name}",
            "",
            " ".join(verb.description.split()),
            *(["", _about(name)] if _about(name) else []),
        ]
        lines += ["", "```bash", *examples, "```"]
        own = {flag: said for flag, said in rows.items() if flag not in shared or rows not in asking}
        lines += _table("option", own) if own else []
        lines += ["", f"Also {', '.join(shared)}: [below](#which-model-which-questions)."] if rows in asking else []
    lines += ["", "## Which model, which questions", "", "The commands that ask many questions share these options."]
    return "\n".join([*lines, *_table("option", shared)]) + "\n"


def _about(name: str) -> str:
    """Return what the module of a verb says of it beside its `--help`."""
    return getattr(import_module(f"mechaudio.cli.{name}"), "ABOUT", "")


def _is_study(verb: argparse.ArgumentParser) -> bool:
    return isinstance(getattr(verb.get_default("run"), "__self__", None), StudyVerb)


def _table(what: str, rows: dict[str, str]) -> list[str]:
    return ["", f"| {what} | |", "|---|---|", *(f"| {flag} | {said} |" for flag, said in rows.items())]


def _options(verb: argparse.ArgumentParser) -> dict[str, str]:
    """Every option and what is said of it, as cells."""
    told = [action for action in verb._actions if not isinstance(action, argparse._HelpAction)]
    return {_flag(action): _cell((action.help or "") % vars(action)) for action in told}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _flag(action: argparse.Action) -> str:
    """An option and what it takes, such as `--n N`; what has no name is its value alone."""
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    if action.choices and not action.metavar:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    value = "" if action.nargs == 0 else f"{value} ..." if action.nargs == "+" else value
    words = [*action.option_strings[-1:], *([value] if value else [])]
    return _cell(f"`{' '.join(words)}`") + (", required" if action.required and action.option_strings else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def small_model_page() -> str:
    """The card of the small model, its tables made anew from what its training wrote; the prose stays."""
    weights = DELTAS.parent
    page = (HERE / "small_model.md").read_text(encoding="utf-8")
    held_out = json.loads((weights / "held_out.json").read_text(encoding="utf-8"))
    page = _between_marks(page, "held out", _held_out(held_out))
    return _between_marks(page, "credits", _credits(json.loads((weights / "credits.json").read_text(encoding="utf-8"))))


def real_parts_page() -> str:
    """The papers' questions asked of small, the tables made anew from recorded answers; the prose stays."""
    page = (HERE / "model_of_real_parts.md").read_text(encoding="utf-8")
    made = runpy.run_path(str(HERE / "real_parts.py"))
    for name, lines in made["tables"](made["answers"]()).items():
        page = _between_marks(page, name, lines)
    return page


def lab_log_page() -> str:
    """The lab log, its table of entries made from their headings; the prose stays."""
    page = (HERE / "lab_log.md").read_text(encoding="utf-8")
    entries = re.findall(r"^##+ ((\d{4}-\d\d-\d\d): (.*))$", page, re.MULTILINE)
    anchors = [re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading, *_ in entries]
    rows = [f"| {day} | [{title}](#{anchor}) |" for (_, day, title), anchor in zip(entries, anchors, strict=True)]
    return _between_marks(page, "entries", ["| day | what was tried |", "|---|---|", *rows])


def _between_marks(page: str, name: str, lines: list[str]) -> str:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, after = page.split(begin)[0], page.split(end)[1]
    return "\n".join([before + begin, "", *lines, "", end + after])


def _held_out(runs: list[dict[str, Any]]) -> list[str]:
    """Write what all seeds answer in every set, then the tables of each seed, those of the shipped one first."""
    with safetensors.safe_open(DELTAS, "np") as file:
        shipped = int(file.metadata()["seed"])
    seeds = sorted(runs, key=lambda run: (run["seed"] != shipped, run["seed"]))
    before = seeds[0]["perplexity"]["before"]
    lines = [
        "### All seeds",
        "",
        f"SmolLM2's own perplexity of held-out prose is {before:.2f}, as published in this file.",
        "",
        "| | " + " | ".join(_seed_name(run, shipped) for run in seeds) + " |",
        "|---" * (len(seeds) + 1) + "|",
        "| steps behind the projector's | " + " | ".join(str(run["steps"]) for run in seeds) + " |",
        "| perplexity after training | " + " | ".join(_forgotten(run["perplexity"]) for run in seeds) + " |",
    ]
    for key, count, shown in _whole_sets(seeds[0]):
        cells = (_share(row[count], row["n"]) for run in seeds for row in run["held_out"] if _key(row) == key)
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    for run in seeds:
        lines += ["", f"### {_seed_name(run, shipped).capitalize()}", *_of_seed(run["held_out"])]
    return lines


def _seed_name(run: dict[str, Any], shipped: int) -> str:
    return f"seed {run['seed']}" + (", shipped" if run["seed"] == shipped else "")


def _forgotten(perplexity: dict[str, float]) -> str:
    return f"{perplexity['after']:.2f} ({perplexity['after'] / perplexity['before']:.2f} times)"


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["set"], row["task"], row["condition"]


def _whole_sets(run: dict[str, Any]) -> list[tuple[tuple[str, ...], str, str]]:
    """The rows of sets as a whole: where they are found, what is counted, and what that is called."""
    rows = []
    for key in (_key(row) for row in run["held_out"] if row["task"] == "all"):
        counts = {"right": ": sound", "follow the caption": ": caption"} if key[2] == "conflict" else {"right": ""}
        rows += [(key, count, f"{key[0]}, {key[2]}{more}") for count, more in counts.items()]
    return rows


def _of_seed(held_out: list[dict[str, Any]]) -> list[str]:
    """A table of each set, with a row per task and source of sound, and a column per condition."""
    lines = []
    for name in dict.fromkeys(row["set"] for row in held_out):
        rows = [row for row in held_out if row["set"] == name]
        conditions = list(dict.fromkeys(row["condition"] for row in rows))
        shown = {condition: condition.replace("conflict", "conflict: sound") for condition in conditions}
        heads = [*shown.values(), *(["conflict: caption"] if "conflict" in conditions else [])]
        lines += ["", f"**{name.capitalize()}**", "", f"| task, source of the sound | {' | '.join(heads)} |"]
        lines.append("|---" * (len(heads) + 1) + "|")
        kinds = sorted({(row["task"], row["source"]) for row in rows}, key=lambda kind: (kind[0] == "all", kind))
        for task, source in kinds:
            of = {row["condition"]: row for row in rows if (row["task"], row["source"]) == (task, source)}
            cells = [_share(of[c]["right"], of[c]["n"]) if c in of else "-" for c in conditions]
            if "conflict" in conditions:
                cells.append(_share(of["conflict"]["follow the caption"], of["conflict"]["n"]))
            lines.append(f"| {task.replace('_', ' ')}{'' if task == 'all' else f', {source}'} | {' | '.join(cells)} |")
    return lines


def _share(count: int, n: int) -> str:
    low, high = wilson_interval(count, n)
    return f"{count} of {n} ({100 * low:.0f}-{100 * high:.0f})"


def _credits(recordings: dict[str, dict[str, str]]) -> list[str]:
    """The recordings by author, each with the page it comes from."""
    names = {"CC0-1.0": "CC0", "Public-Domain": "public domain"}
    lines = ["| recording | author | licence |", "|---|---|---|"]
    for file, told in sorted(recordings.items()):
        author = told.get("author", "not named")
        lines.append(f"| [{file}]({told['source']}) | {author} | {names.get(told['licence'], told['licence'])} |")
    return lines


_DRAWING = runpy.run_path(str(HERE / "drawing.py"))


def home_page() -> str:
    """The README, with links from where the site has it; what is no page leads to the repository."""
    text = (HERE.parent / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    return text.replace("](SECURITY.md)", f"]({REPOSITORY}/blob/main/SECURITY.md)").replace(
        "In a clone of this repository", f"In a clone of [the repository]({REPOSITORY})"
    )


PAGES = {
    "index.md": home_page,
    "architecture.md": _DRAWING["architecture_page"],
    "images/architecture.svg": _DRAWING["drawing"],
    "hook_points.md": hook_points_page,
    "models.md": models_page,
    "small_model.md": small_model_page,
    "model_of_real_parts.md": real_parts_page,
    "command_line.md": command_line_page,
    "lab_log.md": lab_log_page,
    "reference/names.md": names_page,
}


def main() -> int:
    """Write the pages, or check them."""
    stale = []
    for name, page in PAGES.items():
        path = HERE / name
        if "--check" not in sys.argv:
            path.write_text(page(), encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != page():
            stale.append(name)
    if stale:
        sys.stderr.write(
            f"docs/{', docs/'.join(stale)} do not show what the code says: run `python docs/generate.py`\n"
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
