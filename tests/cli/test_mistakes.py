"""What the library says, in the words of the command line."""

import argparse

import pytest

from mechaudio.cli.mistakes import in_options

GIVEN = argparse.Namespace(out=None, mapping="proportional", layers=None, queries="last", allow_cut=False, strict=False)


@pytest.mark.parametrize(
    ("library", "told"),
    [
        ("give another out=", "give another --out"),
        ("out= is a folder", "--out is a folder"),
        ("use mapping='numbered'.", "use --mapping numbered."),
        ("layers=[3, 3] name one layer twice", "--layers 3 3 name one layer twice"),
        ("or pass allow_cut=True to drop the end", "or pass --allow-cut to drop the end"),
        ("without strict=True it is listed", "without --strict it is listed"),
        ("ScaleAttention(2.0, queries='last') changes no row", "ScaleAttention(2.0, queries='last') changes no row"),
        ("got Patch('z', layers=(0, 1), out=(2))", "got Patch('z', layers=(0, 1), out=(2))"),
        ("no file '/data/out=3/x.wav' or out=x", "no file '/data/out=3/x.wav' or --out x"),
        ("give heads=", "give heads="),
    ],
)
def test_arguments_of_the_library_are_told_as_options(library, told):
    assert in_options(library, GIVEN) == told


def test_what_a_verb_has_no_option_for_is_not_advised():
    said = "Cut the clip yourself (AudioClip.cut), or pass allow_cut=True to drop the end"
    assert in_options(said, argparse.Namespace(out=None)) == "Cut the clip yourself (AudioClip.cut)"
