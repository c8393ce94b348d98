"""Errors: a tree, exit codes, and messages of one line that say what to do next."""

from __future__ import annotations

import pytest

from lvmdb import errors
from lvmdb.errors import LvmdbError, MissingDependencyError, UnknownNameError, UsageError

ALL = [
    value for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, LvmdbError)
]  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
def test_the_tree_at_the_top_of_the_file_is_the_real_one(kind: type[LvmdbError]) -> None:
    lines = (errors.__doc__ or "").splitlines()
    (line,) = [line for line in lines if kind.__name__ in line.split()]
    depth = line.index(kind.__name__)
    assert depth == 4 * len(kind.__mro__[: kind.__mro__.index(LvmdbError) + 1])
    assert kind.__doc__


@pytest.mark.parametrize("kind", ALL)
def test_only_usage_errors_exit_2(kind: type[LvmdbError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, UsageError) else 1)


def test_an_unknown_name_gets_the_nearest_and_the_known() -> None:
    error = UnknownNameError("architecture", "ltsm", ["mamba2", "lstm"])
    assert str(error) == ("unknown architecture 'ltsm'; did you mean 'lstm'?; known: lstm, mamba2")


def test_a_name_like_none_gets_the_known_alone() -> None:
    assert str(UnknownNameError("loss", "zz", ["mse"])) == "unknown loss 'zz'; known: mse"


def test_a_hint_takes_the_place_of_the_known() -> None:
    error = UnknownNameError("run", 7, hint="'lvmdb runs list' shows those that exist")
    assert str(error) == "unknown run '7'; 'lvmdb runs list' shows those that exist"


def test_a_long_list_is_cut() -> None:
    error = UnknownNameError("dataset", "x", [f"d{k:03}" for k in range(100)])
    assert str(error).count("d0") == 40


def test_a_missing_package_names_the_extra() -> None:
    error = MissingDependencyError("pyarrow", "parquet", "reading Parquet files")
    assert str(error) == (
        "reading Parquet files needs the package 'pyarrow': pip install 'lvmdb[parquet]'"
    )
