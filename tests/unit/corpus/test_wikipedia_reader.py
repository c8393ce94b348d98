"""The reader of Wikipedia: rows as `datasets` streams them, and which source is which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.readers.base import numbered
from lvmdb.corpus.readers.registry import get_reader
from lvmdb.corpus.readers.wikipedia import read_wikipedia
from lvmdb.errors import InputError, UsageError


def _row(number: int) -> dict[str, Any]:
    text = f"Lead {number}.\n\nHeading \n\n Item\n Item"
    return {"id": str(number), "url": f"u/{number}", "title": f" T  {number}", "text": text}


def _article(number: int) -> RawArticle:
    text = f"Lead {number}.\n\nHeading \n\n Item\n\n Item"
    return RawArticle(str(number), f"T {number}", text, f"u/{number}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of 70 and 5 rows, in groups of 30; row 72 is broken."""
    pytest.importorskip("datasets")
    import pyarrow as pa
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("20231101.en")
    rows = [_row(number) for number in range(75)]
    rows[72]["title"] = None
    for number, part in enumerate((rows[:70], rows[70:])):
        path = folder / f"train-0000{number}-of-00002.parquet"
        parquet.write_table(pa.Table.from_pylist(part), path, row_group_size=30)
    return folder


def test_rows_are_articles_in_the_order_of_files(folder: Path) -> None:
    errors: list[tuple[int, str]] = []

    def read(start: int, limit: int | None) -> list[tuple[int, RawArticle]]:
        errors.clear()
        return list(
            numbered(
                read_wikipedia,
                folder,
                start=start,
                limit=limit,
                on_error=lambda place, error: errors.append((place, str(error))),
            )
        )

    every = [(number, _article(number)) for number in range(75) if number != 72]
    assert read(0, None) == every
    assert errors == [(72, f"{folder}: row 72: `title` is not a string but a NoneType")]
    assert read(68, 72) == every[68:72]
    assert errors == []
    assert read(74, None) == every[-1:]
    assert read(75, None) == read(5, 5) == read(5, 3) == []


def test_one_file_is_a_source_too(folder: Path) -> None:
    (file,) = folder.glob("*0-of-*.parquet")
    assert [a.source_key for a in read_wikipedia(file, start=69)] == ["69"]
    with pytest.raises(UsageError, match="not at -1"):
        list(read_wikipedia(file, start=-1))


def test_a_file_that_is_cut_off_is_an_error(folder: Path, tmp_path: Path) -> None:
    (file,) = folder.glob("*1-of-*.parquet")
    broken = tmp_path / "a.parquet"
    broken.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read from row 0 on: .") as e:
        list(read_wikipedia(broken, on_error=lambda _: None))
    assert "\n" not in str(e.value)


def test_a_snapshot_is_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    import datasets

    asked: list[tuple[str, str]] = []
    real = datasets.load_dataset

    def hub(path: str, name: str, **options: Any) -> Any:
        asked.append((path, name))
        return real(str(folder), **options)

    monkeypatch.setattr(datasets, "load_dataset", hub)
    found = list(get_reader("wikipedia")("20231101.en", limit=2))
    assert found == [_article(0), _article(1)]
    assert asked == [("wikimedia/wikipedia", "20231101.en")]


def test_a_dump_goes_to_its_own_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        "<mediawiki><page><title>T</title><ns>0</ns><id>1</id>"
        "<revision><text>a [[b]]</text></revision></page></mediawiki>"
    )
    assert list(read_wikipedia(path)) == [RawArticle("1", "T", "a b")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no such file or folder, and no snapshot such as 20231101.en either"),
        ("a.csv", r"unknown kind of file; known: \.parquet, \.xml, \.xml\.bz2"),
    ],
)
def test_another_source_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(InputError, match=message):
        list(read_wikipedia(tmp_path / name))
