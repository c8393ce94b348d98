"""The bytes of binary COPY, as PostgreSQL's documentation gives them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvmdb.db import bulk


def test_each_value_has_its_length_before_it() -> None:
    assert bulk.integers([1, -2]) == [b"\0\0\0\4\0\0\0\1", b"\0\0\0\4\xff\xff\xff\xfe"]
    assert bulk.integers(np.array([1]), 8) == [b"\0\0\0\x08" + struct.pack(">q", 1)]
    assert bulk.integers(iter([7]), 2) == [b"\0\0\0\2\0\7"]
    assert bulk.reals(np.array([1.5])) == [b"\0\0\0\4" + struct.pack(">f", 1.5)]
    assert bulk.reals(np.array([1.5]), 8) == [b"\0\0\0\x08" + struct.pack(">d", 1.5)]
    assert bulk.texts(["ä", None, ""]) == [b"\0\0\0\2\xc3\xa4", b"\xff\xff\xff\xff", b"\0\0\0\0"]
    assert bulk.uuids([bytes(range(16))]) == [b"\0\0\0\x10" + bytes(range(16))]
    assert bulk.binary([b"\0\1"]) == [b"\0\0\0\2\0\1"]
    assert bulk.nulls(2) == [b"\xff\xff\xff\xff"] * 2
    assert bulk.vectors(np.array([[1, 2]], dtype=np.float32)) == [
        b"\0\0\0\x0c\0\2\0\0" + struct.pack(">ff", 1, 2)
    ]


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**32))
def test_vectors_that_are_packed_are_parsed_again(dimensions: int, rows: int, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2**32, (rows, dimensions), dtype=np.uint32)
    values = bits.view(np.float32)
    sent = [packed[4:] for packed in bulk.vectors(values)]
    parsed = bulk.parsed_vectors(sent, dimensions)
    assert parsed.dtype == np.float32
    assert parsed.shape == (rows, dimensions)
    assert parsed.flags.c_contiguous
    nan = np.isnan(values)
    assert (np.isnan(parsed) == nan).all()
    assert (parsed.view(np.uint32)[~nan] == bits[~nan]).all()


def test_vectors_of_another_width_are_refused() -> None:
    sent = [packed[4:] for packed in bulk.vectors(np.ones((3, 8), dtype=np.float32))]
    for dimensions in (4, 7, 9, 18):
        with pytest.raises(ValueError, match=r"buffer size|not all of"):
            bulk.parsed_vectors(sent, dimensions)
