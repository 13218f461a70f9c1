"""Results made up for figures and pages: small, seeded, with the shapes and the sums of real ones."""

import numpy as np

from mechaudio.analyses.audio_attention import AudioAttention
from mechaudio.audio.events import Event
from mechaudio.experiments.listen import Listening
from mechaudio.results import Provenance

ROLES = ("audio", "question", "choices", "template")
EVENTS = (Event("dog", 0.5, 2.0), Event("rain", 1.0, 7.5))


def provenance() -> Provenance:
    return Provenance(checkpoint="tiny", seed=0)


def attention(
    n=1, layers=3, heads=2, tokens=50, seconds=10.0, duration=None, events=EVENTS, text="Which sound is first?", seed=0
) -> AudioAttention:
    rng = np.random.default_rng(seed)
    mass = rng.dirichlet(np.ones(len(ROLES)), size=(n, layers, heads))
    within = rng.dirichlet(np.ones(tokens), size=(n, layers, heads))
    edges = np.tile(np.linspace(0, seconds, tokens + 1), (n, 1))
    middles = (edges[:, 1:] + edges[:, :-1]) / 2
    return AudioAttention(
        mass=mass,
        roles=ROLES,
        over_time=within * mass[..., :1],
        n_tokens=np.full(n, tokens),
        edges=edges,
        duration=np.full(n, seconds if duration is None else duration),
        entropy=-(within * np.log(within)).sum(-1),
        peak=middles[0][within.argmax(-1)],
        events=(tuple(events),) * n,
        ids=tuple(f"q{i}" for i in range(n)),
        texts=(text,) * n,
        queries="last",
        provenance=provenance(),
    )


def listening(
    choices=("dog", "rain", "bell"), answer="dog", source=None, cut=0.0, task="earliest_onset", **attending
) -> Listening:
    attended = attention(**attending)
    rate = 16_000
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(attended.duration[0] * rate)) / rate)
    heard = np.arange(len(choices), 0, -1.0)
    return Listening(
        id=attended.ids[0],
        text=attended.texts[0],
        letters=tuple("ABCDEFGH"[: len(choices)]),
        choices=tuple(choices),
        answer=answer,
        choice=choices[0],
        silence_choice=choices[-1],
        correct=None if answer is None else choices[0] == answer,
        probabilities=heard / heard.sum(),
        silence_probabilities=heard[::-1] / heard.sum(),
        attention=attended,
        silence_attention=attended,
        waveform=np.round(samples * 32767).astype(np.int16),
        source=source,
        cut=cut,
        task=task,
        provenance=provenance(),
    )
