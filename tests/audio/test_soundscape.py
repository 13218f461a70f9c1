import numpy as np
import pytest

from mechaudio.audio.events import Event
from mechaudio.audio.sounds import CLASSES, REFERENCE_RMS, SAMPLE_RATE, background, synthesize
from mechaudio.audio.soundscape import describe, draw_events, half_second, render, soundscape

QUIET = {"noise": None, "gain": (0.0, 0.0)}


def rms(wave):
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


@pytest.mark.parametrize("label", CLASSES)
def test_every_class_has_the_reference_level_and_repeats_with_its_seed(label):
    wave = synthesize(label, 1.5, 4)
    assert wave.dtype == np.float32
    assert wave.shape == (24_000,)
    assert rms(wave) == pytest.approx(REFERENCE_RMS, rel=1e-4)
    assert np.array_equal(wave, synthesize(label, 1.5, 4))
    assert not np.array_equal(wave, synthesize(label, 1.5, 5))


@pytest.mark.parametrize(("label", "low", "high"), [("hum", 80, 800), ("whistle", 1400, 3300), ("cricket", 3900, 5300)])
def test_a_class_sounds_in_its_own_band(label, low, high):
    power = np.abs(np.fft.rfft(synthesize(label, 2.0, 0))) ** 2
    hertz = np.fft.rfftfreq(2 * SAMPLE_RATE, 1 / SAMPLE_RATE)
    assert power[(hertz >= low) & (hertz <= high)].sum() > 0.95 * power.sum()


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = soundscape(3), soundscape(3), soundscape(4)
    assert np.array_equal(first.audio.waveform, again.audio.waveform)
    assert (first.events, first.caption) == (again.events, again.caption)
    assert not np.array_equal(first.audio.waveform, other.audio.waveform)


def test_a_scene_is_what_was_asked_for():
    scene = soundscape(3, duration=6.5, n_events=4)
    assert scene.audio.sample_rate == 16_000
    assert scene.audio.waveform.shape == (104_000,)
    assert len({event.label for event in scene.events}) == 4
    assert [e.onset for e in scene.events] == sorted(e.onset for e in scene.events)
    assert all(0 <= e.onset < e.offset <= 6.5 for e in scene.events)
    assert scene.caption == describe(scene.events)


def test_an_event_sounds_inside_its_interval_and_nowhere_else():
    wave = render([Event("hum", 1.0, 2.5)], 4.0, seed=0, **QUIET).waveform
    assert rms(wave[16_000:40_000]) == pytest.approx(REFERENCE_RMS, rel=0.02)
    assert not wave[:16_000].any()
    assert not wave[40_000:].any()


def test_moving_an_event_moves_its_samples_and_leaves_the_others():
    siren = Event("siren", 0.5, 1.5)
    before = render([siren, Event("hum", 2.0, 3.0)], 5.0, seed=7, noise=None).waveform
    after = render([siren, Event("hum", 3.5, 4.5)], 5.0, seed=7, noise=None).waveform
    assert np.array_equal(before[:32_000], after[:32_000])
    np.testing.assert_allclose(before[32_000:48_000], after[56_000:72_000], atol=1e-7)


def test_two_events_of_one_class_are_two_examples():
    wave = render([Event("motor", 0.0, 1.0), Event("motor", 1.0, 2.0)], 2.0, seed=1, **QUIET).waveform
    assert not np.allclose(wave[:16_000], wave[16_000:], atol=1e-3)


def test_gains_are_decibels_and_overlapping_events_add():
    loud = render([Event("hum", 0.0, 1.0)], 1.0, seed=2, gains=[0.0], noise=None).waveform
    soft = render([Event("hum", 0.0, 1.0)], 1.0, seed=2, gains=[-20.0], noise=None).waveform
    hiss = render([Event("hiss", 0.0, 1.0)], 1.0, seed=2, gains=[-6.0], noise=None).waveform
    both = render(
        [Event("hum", 0.0, 1.0), Event("hiss", 0.0, 1.0)], 1.0, seed=2, gains=[0.0, -6.0], noise=None
    ).waveform
    np.testing.assert_allclose(loud, 10 * soft, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(both, loud + hiss, atol=1e-6)


def test_background_noise_has_the_level_asked_for():
    assert rms(render([], 2.0, seed=0, noise=(-20.0, -20.0)).waveform) == pytest.approx(REFERENCE_RMS / 10, rel=1e-3)
    assert rms(background(2.0, 1)) == pytest.approx(REFERENCE_RMS, rel=1e-4)


def test_a_mixture_never_clips():
    events = [Event(label, 0.0, 1.0) for label in CLASSES]
    assert np.abs(render(events, 1.0, seed=0, gains=[20.0] * 12).waveform).max() <= 0.991


def test_captions_are_in_onset_order_to_the_half_second():
    events = [Event("siren", 3.3, 9.1), Event("hum", 0.6, 4.24)]
    assert describe(events) == "hum from 0.5 to 4.0, siren from 3.5 to 9.0."
    assert describe([]) == "silence."
    assert [half_second(t) for t in (0.24, 0.25, 0.75, 1.0)] == [0.0, 0.5, 1.0, 1.0]


def test_drawn_events_obey_labels_and_lengths():
    events = draw_events(5, 10.0, 3, labels=("hum", "beep", "click"), lengths=(1.0, 2.0))
    assert {e.label for e in events} == {"hum", "beep", "click"}
    assert all(0.98 <= e.duration <= 2.02 for e in events)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda: synthesize("dog", 1.0, 0), KeyError, "no synthetic sound 'dog'; there are hum, whistle"),
        (lambda: synthesize("hum", 0.0, 0), ValueError, "at least one sample at 16 kHz, got 0.0 s"),
        (lambda: render([], 0.0, 0), ValueError, "duration must be at least one sample"),
        (lambda: render([Event("hum", 1.0, 3.0)], 2.0, 0), ValueError, "'hum' ends at 3.0 s, after the clip's 2.0 s"),
        (lambda: render([Event("dog", 0.0, 1.0)], 2.0, 0), KeyError, "no synthetic sound 'dog'"),
        (lambda: render([], 1.0, 0, gains=[1.0]), ValueError, r"0 events, 1 gain\b"),
        (lambda: render([], 1.0, 0, noise=(0.0, -9.0)), ValueError, "noise must be .lowest, highest. in dB"),
        (lambda: soundscape(0, n_events=13), ValueError, "n_events must be 0 to 12"),
        (lambda: soundscape(0, duration=0.5), ValueError, "no event of 0.5 to 6.0 s fits into a clip of 0.5 s"),
    ],
)
def test_a_scene_that_cannot_be_had_is_refused(ask, error, message):
    with pytest.raises(error, match=message):
        ask()
