"""Markers, rows of the table of times and merging: the authors' numbers, and what each function promises."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mechaudio.timeaudio import MARKERS, Markers, merge, merged_count, received_attention, window_rows

ORACLES = Path(__file__).parents[1] / "models/salmonn/oracles/timeaudio"
TOLD = json.loads((ORACLES / "markers.json").read_text())


@pytest.fixture(scope="module")
def told():
    return load_file(ORACLES / "ate_merging_head.safetensors")


@pytest.fixture(scope="module")
def projected():
    weights = load_file(ORACLES / "weights.safetensors")
    return lambda tokens: tokens @ weights["speech_llama_proj.weight"].T + weights["speech_llama_proj.bias"]


VARIANTS = ("v1", "v2", "v3")


def of(way):
    return [(variant, *pair) for variant in VARIANTS for pair in TOLD[f"{way}_{variant}"]]


@pytest.mark.parametrize(("variant", "text", "marked"), of("encode"))
def test_times_in_ranges_become_markers_as_released(variant, text, marked):
    assert Markers(variant).encode(text) == marked


@pytest.mark.parametrize(("variant", "marked", "text"), of("decode"))
def test_runs_of_markers_become_numbers_as_released(variant, marked, text):
    assert Markers(variant).decode(marked) == text


@pytest.mark.parametrize(
    ("variant", "run", "text", "malformed", "melted"),
    [
        ("v3", "<a_1><a_2><f_3>", "12.3", False, False),
        ("v3", "<a_1> <f_2>", "1.2", False, False),
        ("v3", "<f_3><a_1>", "1.3", True, False),
        ("v3", "<a_1>", "1.0", True, False),
        ("v3", "<f_5>", "0.5", True, False),
        ("v3", "<a_1><f_2><f_3>", "1.2", True, False),
        ("v3", "<a_1><f_2><a_3><f_4>", "13.2", False, True),
        ("v3", "<a_1><f_2><a_3>", "13.2", True, True),
        ("v1", "<30.0><4.0>", "34.0", False, False),
        ("v1", "<4.0><5.0>", "9.0", False, True),
        ("v1", "<45.3>", "45.3", True, False),
        ("v2", "<TIME_1><TIME_DOT><TIME_2><TIME_5>", "1.25", False, False),
        ("v2", "<TIME_3>", "3", True, False),
        ("v2", "<TIME_1><TIME_DOT><TIME_2><TIME_3><TIME_DOT><TIME_4>", "1.23.4", False, True),
    ],
)
def test_runs_that_are_no_times_and_times_that_melt_are_reported(variant, run, text, malformed, melted):
    read = Markers(variant).read(f"from {run} on")
    assert read.text == f"from {text} on"
    assert read.malformed == ((run,) if malformed else ())
    assert read.melted == ((run,) if melted else ())


def test_each_format_has_its_tokens():
    assert [len(Markers(variant).tokens) for variant in VARIANTS] == [151, 11, 20]
    for variant in VARIANTS:
        marked = Markers(variant).encode("0.0 - 29.9")
        assert all(token in marked for token in marked.split(" - "))
        assert set(Markers(variant).tokens) >= set(marked.replace("><", ">\n<").replace(" - ", "\n").split("\n"))


@pytest.mark.parametrize(("variant", "marker"), [("v1", "<0.2>"), ("v2", "<TIME_DOT>"), ("v3", "<a_1>")])
def test_a_text_with_a_marker_in_it_is_not_encoded(variant, marker):
    with pytest.raises(ValueError, match="holds the marker"):
        Markers(variant).encode(f"what is {marker}, from 1.0 - 2.0?")


def test_ranges_side_by_side_are_warned_of_since_their_times_melt():
    with pytest.warns(UserWarning, match="'<a_2><f_0> <a_3><f_0>' is read as one number: put a comma there"):
        Markers().encode("1.0 - 2.0 3.0 - 4.0")


def test_tenths_of_a_second_survive_the_way_there_and_back():
    markers = Markers()
    for tenth in range(0, 10_000, 7):
        text = f"{tenth / 10:.1f} - {tenth / 10 + 1:.1f}"
        assert markers.decode(markers.encode(text)) == text
    assert len(set(MARKERS)) == 20


def test_released_rows_are_the_authors_and_the_papers_differ_in_single_windows(told):
    names = [name for name in told if name.startswith("rows_")]
    assert len(names) == 8
    for name in names:
        _, n_windows, seconds = name.split("_")
        assert torch.equal(window_rows(int(n_windows), float(seconds), "released"), told[name])
    paper, released = window_rows(264, 88.0), window_rows(264, 88.0, "released")
    late = [97, 101, 105, 109, 113, 117, 194, 197, 202, 210, 218, 226, 231, 234, 239, 247, 255]
    assert ((paper != released).nonzero()[:, 0] + 1).tolist() == late
    assert torch.equal(paper[:30], torch.arange(1, 31))
    assert window_rows(88, 10.0)[30:].eq(0).all(), "windows behind the clip share row 0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((88, 0.0), "a finite length"),
        ((88, float("inf")), "finite"),
        ((0, 1.0), "one window"),
        ((8, 1.0, "x"), "mode= is one of"),
    ],
)
def test_rows_of_nothing_are_refused(arguments, said):
    from tests.families import unchecked_types

    with unchecked_types(), pytest.raises(ValueError, match=said):
        window_rows(*arguments)


@pytest.mark.parametrize("length", [88, 90, 93, 176])
def test_merged_tokens_are_the_authors_on_their_scores(told, projected, length):
    merged = merge(told[f"hidden_{length}"][0], told[f"score_{length}"][0], "released")
    theirs = told[f"tokens_{length}"][0]
    assert (projected(merged.tokens) - theirs).abs().max() < 1e-5
    assert len(theirs) == merged_count(length)


@pytest.mark.parametrize(("length", "left"), [(90, 52), (93, 52), (176, 104), (188, 104), (264, 156), (352, 208)])
def test_as_many_tokens_are_left_as_the_authors_have_and_the_same_windows_stay(told, length, left):
    kept = told[f"kept_{length}"]
    assert merged_count(length) == len(kept) == left
    hidden = told[f"hidden_{length}"][0]
    hidden = hidden if len(hidden) == length else torch.randn(length, 24, generator=torch.Generator().manual_seed(0))
    sources = merge(hidden, told[f"score_{length}"][0], "released").sources
    staying = [token for token in range(left) if token % 26 < 22]
    assert [sources[token] for token in staying] == [(int(kept[token]),) for token in staying]
    everything = sorted(window for own in sources for window in own)
    assert everything == list(range(length)), "every window goes into one token"


def test_the_released_importance_says_nothing(told):
    for length in (88, 90, 93, 176, 188, 264, 352):
        assert (told[f"score_{length}"] - 1 / 17).abs().max() < 1e-7


def test_important_tokens_stay_and_the_rest_goes_to_what_it_is_most_alike():
    generator = torch.Generator().manual_seed(0)
    hidden, keys = torch.randn(176, 4, generator=generator), torch.randn(176, 6, generator=generator)
    importance = torch.zeros(176)
    importance[40:62], importance[100:122] = 1.0, 2.0
    merged = merge(hidden, importance, "paper", keys=keys)
    assert len(merged.tokens) == merged_count(176, "paper") == 52
    for segment, staying in enumerate((range(40, 62), range(100, 122))):
        own = merged.sources[26 * segment : 26 * segment + 26]
        assert own[:22] == tuple((token,) for token in staying)
        rest = [token for token in range(88 * segment, 88 * segment + 88) if token not in staying]
        targets = rest[::16][:4]
        groups = {target: [target] for target in targets}
        for token in rest:
            if token not in targets:
                groups[max(targets, key=lambda target, token=token: float(keys[token] @ keys[target]))].append(token)
        assert own[22:] == tuple(tuple(sorted(group)) for group in groups.values())
        for token, group in zip(merged.tokens[26 * segment + 22 :], groups.values(), strict=False):
            torch.testing.assert_close(token, hidden[group].mean(0))
    released = merge(hidden, importance, "released")
    torch.testing.assert_close(released.weights @ hidden, released.tokens)


def test_several_clips_are_merged_at_once_as_each_by_itself():
    generator = torch.Generator().manual_seed(0)
    hidden, importance = torch.randn(3, 200, 6, generator=generator), torch.rand(3, 200, generator=generator)
    keys = torch.randn(3, 200, 4, generator=generator)
    for mode in ("paper", "released"):
        together = merge(hidden, importance, mode, keys=keys)
        for clip in range(3):
            alone = merge(hidden[clip], importance[clip], mode, keys=keys[clip])
            assert torch.equal(together.weights[clip], alone.weights)
    with pytest.raises(ValueError, match="sources are those of one clip"):
        _ = together.sources


def test_the_papers_share_is_left_and_the_counts_can_be_its_tables():
    hidden, importance = torch.randn(176, 4, generator=torch.Generator().manual_seed(0)), torch.arange(176.0)
    assert merge(hidden, importance, "paper").retained == 52 / 176
    assert merge(hidden, importance, "released").retained == 104 / 176
    table = merge(hidden, importance, "paper", kept=24, contextual=6)
    assert len(table.tokens) == merged_count(176, "paper", kept=24, contextual=6) == 60
    assert sorted(window for group in table.sources for window in group) == list(range(176))


def test_tokens_that_are_few_are_left_alone():
    hidden = torch.randn(88, 8, generator=torch.Generator().manual_seed(0))
    for mode in ("paper", "released"):
        merged = merge(hidden, torch.rand(88, generator=torch.Generator().manual_seed(1)), mode)
        assert torch.equal(merged.tokens, hidden)
        assert merged.sources == tuple((token,) for token in range(88))


def test_the_papers_importance_is_the_attention_received_within_a_segment():
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(176, 2, 4, generator=generator), torch.randn(176, 2, 4, generator=generator)
    received = received_attention(queries, keys)
    expected = torch.zeros(176)
    for start in (0, 88):
        for head in (0, 1):
            for query in range(start, start + 88):
                scores = torch.tensor([queries[query, head] @ keys[key, head] / 2 for key in range(start, start + 88)])
                expected[start : start + 88] += scores.softmax(0) / (2 * 88)
    torch.testing.assert_close(received, expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"importance": torch.zeros(100)}, "importance is given for 100 tokens, there are 176"),
        ({"mode": "other"}, "mode= is one of 'paper', 'released'"),
        ({"keys": torch.zeros(3, 4)}, "keys is given for 3 tokens"),
        ({"kept": 60}, "a segment has at least 64 tokens"),
    ],
)
def test_what_cannot_be_merged_is_refused(arguments, said):
    from tests.families import unchecked_types

    with unchecked_types(), pytest.raises(ValueError, match=said):
        merge(**{"hidden": torch.ones(176, 4), "importance": torch.zeros(176), "mode": "released", **arguments})


@pytest.mark.parametrize("variant", ["v1", "v2", "v3"])
def test_numbers_longer_than_a_day_are_no_times_and_stay_as_they_are(variant):
    text = f"call {'9' * 400}-3 or 1000000-1000001"
    assert Markers(variant).encode(text) == text
    assert Markers(variant).encode("99999-1") != "99999-1"


@pytest.mark.parametrize("arguments", [{"n_tokens": -5}, {"kept": 0}, {"contextual": -1}])
def test_counts_of_nothing_are_refused(arguments):
    with pytest.raises(ValueError, match="at least one stays"):
        merged_count(**{"n_tokens": 200, **arguments})


def test_tokens_beyond_any_memory_are_counted_without_being_laid_out():
    assert merged_count(88 * 10**12) == 2 * 10**12 * 26
