"""What a process knows of the others, and how they agree; two real ones are in integration."""

from __future__ import annotations

import click
import pytest
import torch
from torch import distributed as dist

from lvmdb.cli.train import train as command
from lvmdb.errors import ModelError, RunError, SettingsError
from lvmdb.settings import process_place
from lvmdb.training.averages import Averages, Totals, added
from lvmdb.training.distributed import ALONE, World, joined, lost_processes_named
from lvmdb.training.reading import Reading, shown_bytes

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)


def test_torchrun_says_who_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_place() == (0, 1, 0)
    for name, value in TORCHRUN.items():
        # Some of them are other programs' too.
        assert process_place() == (0, 1, 0)
        monkeypatch.setenv(name, value)
    assert process_place() == (3, 4, 1)
    monkeypatch.setenv("WORLD_SIZE", "four")
    with pytest.raises(SettingsError, match=r"WORLD_SIZE .* numbers: .*'four'"):
        process_place()


def test_alone_nothing_is_asked() -> None:
    with joined() as world:
        assert world is ALONE
    assert not dist.is_initialized()
    assert world.leads
    assert world.add(3, True) == [3, True]
    assert world.gather("x") == ["x"]
    assert world.share(lambda: "y") == "y"
    assert world.place(torch.device("mps")) == torch.device("mps")
    with pytest.raises(ZeroDivisionError), joined():
        raise ZeroDivisionError


def test_the_first_that_fails_reports_and_stays_the_first() -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    worlds = [World(rank, 3, rank, store) for rank in (2, 0, 1)]
    assert [world.first_to_fail() for world in worlds * 2] == [True, False, False] * 2
    assert ALONE.first_to_fail()


@pytest.mark.parametrize(
    ("kinds", "why"), [(["cpu", "cuda"], "on cpu and cuda"), (["mps", "mps"], "on mps")]
)
def test_devices_that_do_not_go_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, kinds: list[str], why: str
) -> None:
    monkeypatch.setattr(World, "gather", lambda *_: kinds)
    with pytest.raises(ModelError, match=f"2 processes cannot train together {why}: .*--device"):
        World(0, 2).place(torch.device(kinds[0]))


def test_each_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(World, "gather", lambda *_: ["cuda", "cuda"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert World(5, 8, 1).place(torch.device("cuda")) == torch.device("cuda", 1)
    assert chosen == [1]
    with pytest.raises(ModelError, match="more processes than GPUs, of which this machine has 2"):
        World(6, 8, 2).place(torch.device("cuda"))


def test_a_lost_process_is_named_and_other_errors_are_left() -> None:
    told = r"ended without a word: .*\(.*closed by peer\)"
    with pytest.raises(RunError, match=told), lost_processes_named():
        raise RuntimeError("[/gloo/transport/tcp/pair.cc:538]\nConnection closed by peer")
    with pytest.raises(RuntimeError, match="shapes"), lost_processes_named():
        raise RuntimeError("shapes do not fit")


def test_sums_go_on_exactly_where_they_were() -> None:
    generator = torch.Generator().manual_seed(1)
    values = [{"loss": v} for v in torch.rand(40, generator=generator)]
    whole, begun = Averages(), Averages()
    for number, value in enumerate(values):
        whole.add(value, 3 + number)
        if number == 20:
            begun = Averages(begun.totals())
        begun.add(value, 3 + number)
        begun.add({"loss": torch.tensor(torch.nan)}, 0)
    assert begun.totals() == whole.totals()
    parts = [Totals(2, {"a": 1.0}), Totals(), Totals(3, {"a": 0.5, "b": 2.0})]
    assert added(parts) == Totals(5, {"a": 1.5, "b": 2.0})
    assert added(parts).means() == {"a": 0.3, "b": 0.4}


def test_a_cache_is_a_stamp_in_the_shortest_words() -> None:
    assert Reading().stamps == []
    assert Reading(cache_bytes=2 * 10**9).stamps == ["cache=2GB"]
    assert [shown_bytes(n) for n in (10**12, 1500 * 10**6, 1001)] == ["1TB", "1500MB", "1001B"]


@pytest.mark.parametrize(
    ("said", "size"),
    [(None, 0), ("2GB", 2 * 10**9), ("1.5 tb", 1500 * 10**9), ("20MB", 20 * 10**6)]
    + [(wrong, None) for wrong in ("2", "GB", "-2GB", "0GB", "2GiB", "1e3MB", "", "2GB 3GB")],
)
def test_a_cache_has_a_size_with_a_unit(said: str | None, size: int | None) -> None:
    (option,) = (option for option in command.params if option.name == "cache")
    context = click.Context(command)
    if size is None:
        with pytest.raises(click.BadParameter, match="is not a size such as 2GB"):
            option.process_value(context, said)
    else:
        assert option.process_value(context, said) == size
