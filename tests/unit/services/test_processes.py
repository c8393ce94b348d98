"""Records of services, how they are started, and the command line's bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lvmdb.cli.app import App
from lvmdb.cli.main import cli
from lvmdb.errors import (
    ConnectionLostError,
    CorpusError,
    DatabaseError,
    EncoderError,
    EndpointError,
    InputError,
    LvmdbError,
    RevisionError,
    ServiceError,
    SettingsError,
    UnknownNameError,
    UsageError,
)
from lvmdb.services import records, watch
from lvmdb.services.catalogue import PORT_BASE, SERVICES, chosen
from lvmdb.services.child import listen
from lvmdb.services.limits import Limits
from lvmdb.services.options import ServiceOptions, is_loopback, require_token
from lvmdb.services.problems import clean, from_lvmdb
from lvmdb.services.supervisor import decoding_address
from lvmdb.settings import Settings


def record(**changes: object) -> records.Record:
    made = records.Record("tmd", "127.0.0.1", 8002, os.getpid(), pid=os.getpid(), live=True)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_ports_are_those_that_were_agreed_on() -> None:
    assert {name: service.port() for name, service in SERVICES.items()} == {
        "chunking": 8001,
        "tmd": 8002,
        "lvm": 8003,
        "ingest": 8004,
        "embedding": 8767,
        "decoding": 8768,
    }
    assert SERVICES["embedding"].port(PORT_BASE + 1000) == 9767
    with pytest.raises(UsageError, match="port 66267"):
        SERVICES["embedding"].port(65_500)


def test_services_find_the_decoding_service_among_them(tmp_path: Path) -> None:
    options = ServiceOptions(Settings(tmp_path), "dsn")
    name = "LVMDB_DECODING_URL"
    assert decoding_address(options, 9000) == {name: "http://127.0.0.1:9768"}
    assert decoding_address(replace(options, host="::"), 8000) == {name: "http://[::1]:8768"}
    assert decoding_address(replace(options, host="10.0.0.1"), 8000)[name].startswith("http://10.")
    assert decoding_address(options, 65_000) == {}
    elsewhere = Settings(tmp_path, decoding_url="http://models.example")
    assert decoding_address(replace(options, settings=elsewhere), 8000) == {}


def test_services_are_chosen_by_name() -> None:
    assert [s.name for s in chosen(["embedding", "chunking"])] == ["chunking", "embedding"]
    assert chosen(["all", "tmd"]) == list(SERVICES.values())
    with pytest.raises(UnknownNameError, match="did you mean 'embedding'"):
        chosen(["embeddings"])


def test_a_claimed_service_is_nobody_elses(tmp_path: Path) -> None:
    held = records.claim(tmp_path, "tmd")
    held.write(record())
    assert records.running(tmp_path, "tmd") == (record(since=_since(tmp_path)), True)
    with pytest.raises(ServiceError, match=r"runs already \(process \d+, http://127.0.0.1:8002\)"):
        records.claim(tmp_path, "tmd")
    held.release()
    assert records.running(tmp_path, "tmd") == (None, False)
    records.claim(tmp_path, "tmd").release()


def test_what_a_killed_process_left_is_no_service(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from lvmdb.services import records\n"
        "held = records.claim(Path(sys.argv[1]), 'tmd')\n"
        "held.write(records.Record('tmd', '127.0.0.1', 8002, os.getpid(), 1, True))\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    # Process 1 runs, and is not what is meant.
    found, runs = records.running(tmp_path, "tmd")
    assert (found and found.pid, runs) == (1, False)
    (seen,) = [s for s in watch.look(tmp_path) if s.service == "tmd"]
    assert (seen.state, seen.well) == ("killed", False)
    assert watch.stop(tmp_path, chosen(["all"])) == []
    assert records.running(tmp_path, "tmd") == (None, False)


def test_a_removed_file_asks_for_an_end(tmp_path: Path) -> None:
    held = records.claim(tmp_path, "tmd")
    held.write(record())
    before = held.withdrawn
    assert records.withdraw(tmp_path, "tmd", 0.0) is not None, "nobody gave up the lock"
    assert (before, held.withdrawn) == (False, True)
    held.release()
    assert records.withdraw(tmp_path, "tmd", 0.0) is None


def test_a_service_that_does_not_answer_is_not_ready(tmp_path: Path) -> None:
    held = records.claim(tmp_path, "tmd")
    with listen("127.0.0.1", 0, "tmd") as closed:
        port = closed.getsockname()[1]
    held.write(record(port=port))
    (seen,) = [s for s in watch.look(tmp_path) if s.service == "tmd"]
    assert (seen.state, "Connection refused" in seen.reason) == ("not ready", True)
    held.write(record(port=port, live=False))
    (seen,) = [s for s in watch.look(tmp_path) if s.service == "tmd"]
    assert seen.state == "starting"
    held.release()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_this_machine_needs_no_token(host: str, tmp_path: Path) -> None:
    assert is_loopback(host)
    require_token(ServiceOptions(Settings(tmp_path), "", host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "models.example"])
def test_other_machines_need_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="set LVMDB_TOKEN"):
        require_token(ServiceOptions(Settings(tmp_path), "", host=host))
    require_token(ServiceOptions(Settings(tmp_path, token="abc"), "", host=host))
    for unsendable in ("a b", "a\nb", "schl\u00fcssel"):
        with pytest.raises(SettingsError, match="visible ASCII") as refused:
            require_token(ServiceOptions(Settings(tmp_path, token=unsendable), "", host=host))
        assert unsendable not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "said"), [("203.0.113.9", "not an address of this machine"), ("a b", "no such")]
)
def test_where_nobody_can_listen(host: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        listen(host, 0, "tmd")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionLostError("at 10.0.0.1"), 503),
        (RevisionError("run 'lvmdb migrate'"), 503),
        (DatabaseError("disk full at 10.0.0.1"), 503),
        (EndpointError("no answer"), 503),
        (SettingsError("LVMDB_LLM_URL is not set"), 503),
        (UnknownNameError("chunker", "x"), 422),
        (UsageError("no"), 422),
        (InputError("no"), 422),
        (CorpusError("another encoder"), 409),
        (EncoderError("another encoder"), 409),
        (LvmdbError("no"), 500),
    ],
)
def test_what_an_error_means_to_a_caller(error: LvmdbError, status: int) -> None:
    problem = from_lvmdb(error)
    assert problem.status == status
    assert (problem.retry_after is not None) == (status == 503)
    assert "10.0.0.1" not in problem.message


def test_a_message_is_one_line_that_can_be_sent() -> None:
    assert clean(" a\n\tb\ud800 ") == "a b\\ud800"
    assert len(clean("a" * 9_999)) == 500


@pytest.mark.parametrize(("name", "value"), [("body_bytes", 0), ("threads", 0), ("waiting", -1)])
def test_limits_that_let_nothing_pass(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("serve chunkin", UnknownNameError, "did you mean 'chunking'"),
        ("serve", click.UsageError, ""),
        ("serve chunking --dataset A.B", UsageError, "cannot name a dataset"),
        ("serve chunkin --dataset status", UnknownNameError, "did you mean 'chunking'"),
        ("serve --nonsense", click.UsageError, "--nonsense"),
        ("serve stop everything", UnknownNameError, "unknown service"),
    ],
)
def test_bad_command_lines(line: str, kind: type[Exception], said: str) -> None:
    result = CliRunner().invoke(cli, line.split(), obj=App(), standalone_mode=False)
    assert isinstance(result.exception, kind)
    assert said in str(result.exception)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("serve --help", "Commands:"),
        ("serve chunking --help", "serve start [OPTIONS] SERVICE..."),
        ("serve --port-base 9000 all -h", "serve start [OPTIONS] SERVICE..."),
        ("serve -q status --help", "serve status [OPTIONS]"),
    ],
)
def test_start_may_be_left_out(line: str, said: str) -> None:
    result = CliRunner().invoke(cli, line.split(), obj=App())
    assert (result.exit_code, said in result.output) == (0, True), result.output


def _since(home: Path) -> float:
    found, _ = records.running(home, "tmd")
    assert found is not None
    return found.since
