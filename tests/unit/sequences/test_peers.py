"""Other clients: what arrives is checked before it is believed."""

from __future__ import annotations

import pytest

from lvmdb.errors import DatabaseError
from lvmdb.sequences.peers import COPIED, COPY_SIGNATURE, SENT, _url, _without_header


def test_rows_have_the_width_of_the_format() -> None:
    assert SENT.itemsize == 2 + 2 + 4 * 768
    assert COPIED.itemsize == 2 + 4 + SENT.itemsize


def test_the_header_of_copy_ends_after_its_extension() -> None:
    flags = b"\0\0\0\0"
    assert _without_header(COPY_SIGNATURE + flags + b"\0\0\0\0" + b"rows") == b"rows"
    assert _without_header(COPY_SIGNATURE + flags + b"\0\0\0\3" + b"xyz" + b"rows") == b"rows"
    for wrong in (b"", b"1,2\n", COPY_SIGNATURE + flags):
        with pytest.raises(DatabaseError, match="without its signature"):
            _without_header(wrong)


@pytest.mark.parametrize(
    ("dsn", "url"),
    [
        (
            "user=me dbname=lvmdb host=/tmp/lvmdb-1 port=5432 application_name=lvmdb",
            "postgresql://me@%2Ftmp%2Flvmdb-1:5432/lvmdb",
        ),
        (
            "postgresql://me:p%40ss%2F@db.example/lv",
            "postgresql://me:p%40ss%2F@db.example/lv",
        ),
        ("dbname=lv", "postgresql://@localhost/lv"),
    ],
)
def test_a_connection_string_becomes_a_url(dsn: str, url: str) -> None:
    assert _url(dsn) == url
