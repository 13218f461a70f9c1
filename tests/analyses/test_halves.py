import pytest

from mechaudio.analyses import in_calibration


def test_ids_of_clips_keep_what_is_asked_about_one_clip_together():
    drawn = in_calibration(["dogs.wav", "rain.wav"] * 20)
    assert len(set(drawn[::2])) == len(set(drawn[1::2])) == 1


def test_a_split_that_means_nothing_is_refused():
    with pytest.raises(ValueError, match="share is a number between 0 and 1"):
        in_calibration(["a"], share=1.0)
    with pytest.raises(ValueError, match=r"questions \[1\] have no id"):
        in_calibration(["a", ""])
