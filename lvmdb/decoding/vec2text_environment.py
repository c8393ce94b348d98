"""The environment of vec2text's process: a virtual environment with packages of other versions.

vec2text 0.0.13, its newest release, breaks with transformers 4.50 and later. Its environment has
the versions of `vec2text-requirements.txt`. What lvmdb's own environment has in exactly such a
version is shared (PyTorch alone is most of a gigabyte), and the rest installed: about 20 MB.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from lvmdb.errors import SettingsError
from lvmdb.settings import Settings, child_environment

REQUIREMENTS = Path(__file__).with_name("vec2text-requirements.txt")
"""Versions that are tested together."""

PROCESS = Path(__file__).with_name("vec2text_process.py")
"""What runs in the environment."""

_STAMP = "lvmdb-requirements.txt"
_SHARED = "lvmdb-shared.pth"


def folder_of(settings: Settings) -> Path:
    """Where the environment is, or would be: `LVMDB_VEC2TEXT`, else `LVMDB_HOME/vec2text`."""
    return settings.vec2text or settings.home / "vec2text"


def command(folder: Path) -> list[str]:
    """The command of vec2text's process.

    Raises:
        SettingsError: the environment is not there, or of other versions.
    """
    problem = lacking(folder)
    if problem is not None:
        raise SettingsError(problem)
    # Isolated: neither this environment's variables nor the folder of the program, in which a
    # module is called as the library is, are searched for packages.
    return [str(_python(folder)), "-I", str(PROCESS)]


def lacking(folder: Path) -> str | None:
    """Why the environment in a folder cannot be used; None where it can."""
    stamp = folder / _STAMP
    if not stamp.is_file() or not _python(folder).exists():
        return f"vec2text's environment is not there ({folder}): run 'lvmdb vec2text install'"
    if stamp.read_text(encoding="utf-8") != REQUIREMENTS.read_text(encoding="utf-8"):
        return (
            f"vec2text's environment ({folder}) is of other versions than this lvmdb wants: run "
            "'lvmdb vec2text install' again"
        )
    return None


def install(folder: Path, say: Callable[[str], object], torch_index: str | None = None) -> None:
    """Make the environment, in place of what is there.

    Args:
        folder: where.
        say: told what is done.
        torch_index: address of an index that has PyTorch's builds, where PyTorch is not shared.

    Raises:
        SettingsError: the folder holds something else, cannot be written to, or pip fails.
    """
    if folder.exists() and not (folder / "pyvenv.cfg").is_file() and any(folder.iterdir()):
        raise SettingsError(
            f"{folder} holds something else than an environment: set LVMDB_VEC2TEXT to another "
            "folder"
        )
    pinned = requirements()
    places = {name: _shared_place(name, version) for name, version in pinned.items()}
    own = [f"{name}=={pinned[name]}" for name, place in places.items() if place is None]
    shared = sorted({str(place) for place in places.values() if place is not None})
    try:
        shutil.rmtree(folder, ignore_errors=True)
        say(f"making vec2text's environment in {folder}")
        venv.create(folder, symlinks=True)
        if f"torch=={pinned['torch']}" in own:
            # With all that it needs: its CUDA builds are of many packages.
            own.remove(f"torch=={pinned['torch']}")
            index = ["--extra-index-url", torch_index] if torch_index else []
            _pip(folder, [*index, f"torch=={pinned['torch']}"], say)
        _pip(folder, ["--no-deps", *own], say)
        lines = "".join(f"{place}\n" for place in shared)
        (_site_packages(folder) / _SHARED).write_text(lines, encoding="utf-8")
        shutil.copyfile(REQUIREMENTS, folder / _STAMP)
    except OSError as error:
        raise SettingsError(f"cannot make {folder}: {error.strerror or error}") from error


def requirements() -> dict[str, str]:
    """The pinned version of each package."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def _shared_place(name: str, version: str) -> Path | None:
    """The folder in which this environment has a package, if it has that version of it."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    # Builds of one version differ behind the plus sign: 2.13.0+cpu.
    if found.version.partition("+")[0] != version:
        return None
    return Path(str(found.locate_file(""))).resolve()


def _pip(folder: Path, wanted: list[str], say: Callable[[str], object]) -> None:
    """Install packages.

    Raises:
        SettingsError: pip fails; the message ends with what it said last.
    """
    say(f"installing {', '.join(each for each in wanted if '==' in each)}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(_python(folder))),
            # Bytecode comes with use: most of what is installed is never imported.
            *("install", "--quiet", "--disable-pip-version-check", "--no-compile", *wanted),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=child_environment({}),
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it says nothing"]
        raise SettingsError(f"pip cannot install vec2text's environment: {said[-1]}")


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _site_packages(folder: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "lib" / version / "site-packages"
