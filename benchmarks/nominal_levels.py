"""Do intervals and tests hold their level where several questions share a clip?

On many data sets with nothing to be found, how often a 95% interval misses the truth, and how often p < .05: with
1, 2 and 3 questions a clip, and as it would be if they counted as independent. Questions of one clip have answers and
scores that are alike: their correlation within a clip is `ALIKE`. With `--sizes`, of clips with these numbers of
questions, and answers that are right as often as `--right` says.

    python benchmarks/nominal_levels.py --sets 1000
    python benchmarks/nominal_levels.py --sets 1000 --sizes 1 1 2 2 5 5 9 9 --right 0.8
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mechaudio.analyses.patching.scale import Scale
from mechaudio.metrics import (
    accuracy,
    benjamini_hochberg,
    bootstrap_mean,
    bootstrap_point_biserial,
    mcnemar,
    paired_difference,
    point_biserial,
    roc_auc,
)

ALIKE = 0.5
N_HEADS = 24


def data_set(
    rng: np.random.Generator, n_clips: int, per_clip: int | Sequence[int], alike: float, right: float = 0.5
) -> dict[str, np.ndarray]:
    """Answers, changed answers, scores and audio attention that have nothing to do with each other.

    Args:
        rng: the lot.
        n_clips: how many clips.
        per_clip: questions about each; or several numbers, which the clips have in turn.
        alike: how often a question takes its clip's value in place of one of its own.
        right: the share of right answers.
    """
    clips = np.repeat(np.arange(n_clips), np.resize(per_clip, n_clips))
    n = len(clips)

    def shared(draw):
        own, of_clip = draw(n), draw(n_clips)[clips]
        follows = rng.random(n) < np.sqrt(alike)  # two that both follow have the same value
        return np.where(follows, of_clip, own)

    before = shared(lambda size: rng.random(size) < right)
    direction = shared(lambda size: rng.random(size) < right)  # of a change: to right or to wrong
    after = np.where(rng.random(n) < 0.4, direction, before)
    normal = [np.sqrt(alike) * rng.normal(size=(n_clips, N_HEADS))[clips], rng.normal(size=(n, N_HEADS))]
    attention = normal[0] + np.sqrt(1 - alike) * normal[1]
    gap = np.exp(attention[:, 1])  # what there is to explain in a pair of prompts
    return {
        "clips": clips, "before": before, "after": after, "score": attention[:, 0], "attention": attention, "gap": gap,
    }  # fmt: skip


def missed(
    data: dict[str, np.ndarray], *, by_clip: bool, resamples: int = 400, right: float = 0.5
) -> dict[str, bool | float]:
    """What says that there is something, or misses the truth, in one data set."""
    told = {"clips": data["clips"] if by_clip else None}
    correct = accuracy(data["before"], **told)
    change = paired_difference(data["before"], data["after"], **told)
    test = mcnemar(data["before"], data["after"], **told)
    area = roc_auc(data["score"], data["before"], **told)
    heads = point_biserial(data["attention"], data["before"], **told)
    spread = bootstrap_point_biserial(data["score"][:, None], data["before"], resamples=resamples, **told)
    names = tuple(map(str, data["clips"])) if by_clip else ()
    means = bootstrap_mean(data["score"], resamples=resamples, **told)
    patched = Scale(data["gap"], np.zeros(len(data["gap"])), names).interval(data["score"][None], resamples=resamples)
    return {
        "accuracy, interval": not correct.low <= right <= correct.high,
        "paired difference, interval": not change.low <= 0 <= change.high,
        "paired difference, p": test.p < 0.05,
        "paired difference, mid-p": test.p_mid < 0.05,
        "AUC, interval": not area.low <= 0.5 <= area.high,
        "AUC, p": area.p < 0.05,
        "r of a head, p": float((heads.p < 0.05).mean()),
        "r of a head, interval": bool((spread.low[0] > 0) | (spread.high[0] < 0)),
        "mean, interval": not means[0] <= 0 <= means[1],
        "effect of a patch, interval": not patched[0][0] <= 0 <= patched[1][0],
        "any head, q": bool((benjamini_hochberg(heads.p) < 0.05).any()),
    }


def levels(
    n_sets: int,
    n_clips: int,
    per_clip: int | Sequence[int],
    *,
    by_clip: bool = True,
    alike: float = ALIKE,
    right: float = 0.5,
    seed: int = 0,
    resamples: int = 400,
) -> dict[str, float]:
    """The share of null data sets of which each says that there is something."""
    rng, counts = np.random.default_rng([seed, n_clips, *np.atleast_1d(per_clip)]), defaultdict(float)
    for _ in range(n_sets):
        data = data_set(rng, n_clips, per_clip, alike, right)
        for name, wrong in missed(data, by_clip=by_clip, resamples=resamples, right=right).items():
            counts[name] += wrong / n_sets
    return dict(counts)


def main() -> None:
    """Print a table of shares in percent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--clips", type=int, nargs="+", help="how many (20, 40 and 100; with --sizes one of each)")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of questions, which the clips have in turn")
    parser.add_argument("--alike", type=float, default=ALIKE, help="correlation of answers and scores within a clip")
    parser.add_argument("--right", type=float, default=0.5, help="share of right answers")
    parser.add_argument("--resamples", type=int, default=400)
    asked = parser.parse_args()
    several = {f"{m} a clip": m for m in (1, 2, 3)} if asked.sizes is None else {"of these sizes": asked.sizes}
    kinds = [(name, sizes, True) for name, sizes in several.items()]
    kinds += [(f"{name}, as independent", sizes, False) for name, sizes, _ in kinds[-1:]]
    options = {name: getattr(asked, name) for name in ("alike", "right", "resamples")}
    for n_clips in asked.clips or ([20, 40, 100] if asked.sizes is None else [len(asked.sizes)]):
        columns = {
            name: levels(asked.sets, n_clips, sizes, by_clip=by_clip, **options) for name, sizes, by_clip in kinds
        }
        print(f"\n{asked.sets} data sets of {n_clips} clips, in percent")
        print(f"{'':30s}" + "".join(f"{name:>32s}" for name in columns))
        for name in next(iter(columns.values())):
            print(f"{name:30s}" + "".join(f"{100 * shares[name]:32.1f}" for shares in columns.values()))


if __name__ == "__main__":
    main()
