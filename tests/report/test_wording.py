import ast
import re
from pathlib import Path

import numpy as np
import pytest

import mechaudio as ma
from mechaudio.arguments import n_of
from mechaudio.interventions.grid import size_of
from mechaudio.metrics import Proportion, paired_difference
from mechaudio.report.wording import p_value, percent, points


def test_shares_and_changes_stand_with_their_intervals():
    assert percent(Proportion(31, 40, 0.6251, 0.877, 0.95)) == "77.5% [62.5, 87.7]"
    assert points(paired_difference([False] * 6 + [True] * 4, [True] * 9 + [False])) == "+50.0 points [-1.3, +84.6]"


@pytest.mark.parametrize(("p", "told"), [(0.043, "p = 0.043"), (0.0001, "p = 0.0001"), (9.9e-5, "p < 0.0001")])
def test_a_very_small_p_value_is_said_to_be_small(p, told):
    assert p_value(p) == told


#: Words for what is counted.
COUNTED = (
    "answers|bytes|channels|choices|clips|columns|cuts|directions|edges|entries|events|files|groups|heads|items|layers|"
    "pairs|places|positions|prompts|questions|recordings|rows|samples|sets|steps|tensors|texts|tokens|variants|windows"
)
#: Counts in front of them that are never one, each with its module.
SEVERAL = {
    ("clip.py", "self.n_channels"),
    ("clip.py", "len(self.waveform)"),
    ("recordings.py", "len(files)"),
    ("recordings.py", "count"),
    ("checked.py", "n"),
    ("steering_tables.py", "study.chooses.sum()"),
    ("checkpoint.py", "size"),
}


def test_a_count_is_put_into_words():
    assert [n_of(n, "question") for n in (0, 1, 2)] == ["0 questions", "1 question", "2 questions"]
    assert [n_of(n, "entry") for n in (np.int64(1), 3)] == ["1 entry", "3 entries"]
    assert [n_of(n, "stretch") for n in (1, 3)] == ["1 stretch", "3 stretches"]
    assert size_of({"layers": [3], "factor": [0.5, 2.0]}) == "1 layer x 2 factor"
    assert [n_of(n, "answer is", "answers are") for n in (1, 3)] == ["1 answer is", "3 answers are"]


def test_no_text_puts_a_plural_behind_a_count_that_may_be_one():
    plurals, noun = set(), re.compile(rf" (?:[a-z-]+ )?(?:{COUNTED})\b")
    for module in Path(ma.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for before, count, behind in zip([None, *parts], parts, parts[1:], strict=False):
                if not isinstance(count, ast.FormattedValue) or not isinstance(behind, ast.Constant):
                    continue
                if not noun.match(behind.value):
                    continue
                share = isinstance(before, ast.Constant) and re.search(r"\bof (the )?$", before.value)  # "1 of 1 heads"
                number = ast.unparse(count.value)
                counts = re.search(r"^len\(|\bn_(?!of)|\bn$|sum\(\)$|size$|count$", number)
                if counts and not share:
                    plurals.add((module.name, number))
    assert plurals == SEVERAL
