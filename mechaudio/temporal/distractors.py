"""Wrong options: other sounds of the clip first; where there are too few, sounds of clips of another category.

Options from elsewhere are drawn by lot among all sounds of the corpus that the clip lacks. Adding clips to a corpus
changes such an option only where a new sound has a lower lot; options from the clip and letters never change.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mechaudio.audio.events import AnnotatedClip
from mechaudio.temporal.draws import digest, lots, shuffled
from mechaudio.temporal.sounds import Sound, sounds_of

_AT_ONCE = 64


class Pool:
    """All sounds of a corpus, each once for every category of clip, an entry of `meta`, in which it is heard."""

    def __init__(self, clips: Iterable[AnnotatedClip], category: str):
        self.category = category
        texts: dict[tuple[str, str], str] = {}
        for clip in clips:
            for sound in sounds_of(clip):
                entry = (sound.key, self.category_of(clip))
                texts[entry] = min(sound.text, texts.get(entry, sound.text))  # whichever clip comes first
        self.entries = [(key, kind, texts[key, kind]) for key, kind in sorted(texts)]
        self.hashes = np.array([digest(key) for key, _, _ in self.entries], dtype=np.uint64)

    def category_of(self, clip: AnnotatedClip) -> str:
        """The category of a clip, blank where it has none."""
        return str(clip.meta.get(self.category) or "")

    def draw(
        self, n: int, clip: AnnotatedClip, present: Sequence[Sound], alike: Callable[[str], bool], *purpose: object
    ) -> list[str]:
        """Up to `n` different sounds that the clip lacks, from clips of another category.

        A text that is `alike` may stand for one of its sounds; lots depend on the purpose.
        """
        taken, kind, drawn = {sound.key for sound in present}, self.category_of(clip), []
        for index in self._by_lot(*purpose):
            if len(drawn) == n:
                break
            key, other, text = self.entries[index]
            if key in taken or (kind and other == kind) or alike(text):
                continue
            taken.add(key)
            drawn.append(text)
        return drawn

    def _by_lot(self, *purpose: object) -> Iterable[int]:
        drawn = lots(self.hashes, *purpose)
        few = np.arange(len(drawn))
        if len(drawn) > 2 * _AT_ONCE:
            few = np.argpartition(drawn, _AT_ONCE)[:_AT_ONCE]
            yield from few[np.lexsort((few, drawn[few]))].tolist()
            few = np.setdiff1d(np.arange(len(drawn)), few)
        yield from few[np.lexsort((few, drawn[few]))].tolist()


def wrong_options(
    n: int,
    clip: AnnotatedClip,
    others: Sequence[Sound],
    present: Sequence[Sound],
    pool: Pool,
    alike: Callable[[str], bool],
    *purpose: object,
) -> dict[str, str]:
    """Wrong options and where each is from: sounds of the clip, and of the corpus such as are not `alike`.

    Returns:
        Text -> `clip` or `elsewhere`; fewer than `n` where the corpus has no more.
    """
    chosen = shuffled([sound.text for sound in others], *purpose, "clip")[:n]
    elsewhere = pool.draw(n - len(chosen), clip, present, alike, *purpose, "elsewhere")
    return dict.fromkeys(chosen, "clip") | dict.fromkeys(elsewhere, "elsewhere")
