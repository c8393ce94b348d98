"""What the program does around its commands: exit codes, one line an error, -v, -q, --dsn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from lvmdb.cli import main as program
from lvmdb.cli.app import App, Command, OutputFile, pass_app
from lvmdb.errors import InputError, LvmdbError, UsageError

NOWHERE = "postgresql://ann:geheim@127.0.0.1:1/lvmdb"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("runs", "list")`: the program in this process."""

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["lvmdb", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        said = capsys.readouterr()
        return Result(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[App], None]], None]:
    """`command(function)` adds a command `try` that calls it."""

    def add(function: Callable[[App], None]) -> None:
        made = click.command("try", cls=Command)(pass_app(function))
        original = program.Program.get_command

        def get(self: program.Program, context: click.Context, name: str) -> click.Command | None:
            return made if name == "try" else original(self, context, name)

        monkeypatch.setattr(program.Program, "get_command", get)

    return add


def test_help_and_version_are_success(run: Run) -> None:
    assert run("--help").code == 0
    assert run("-h").code == 0
    version = run("--version")
    assert version.code == 0
    assert version.out.startswith("lvmdb, version ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnus"], "No such command 'rnus'. Did you mean 'runs'?"),
        (["runs", "lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["db", "statsu"], "No such command 'statsu'. Did you mean 'status'?"),
        (["nothing-like-it"], "No such command 'nothing-like-it'."),
        (["train", "--runid", "3"], "No such option '--runid'. Did you mean '--run-id'?"),
        (["search", "--exakt", "x"], "No such option '--exakt'. Did you mean '--exact'?"),
        (["train"], "Missing option '--run-id'."),
        (["train", "--run-id", "seven"], "'seven' is not a valid integer"),
        (["runs", "list", "--format", "xml"], "'xml' is not one of 'table', 'json', 'csv'"),
        (["train", "--run-id", "1", "--device", "tpu"], "'tpu' is not one of"),
        (["evaluate", "--run-id", "1", "--split", "tset"], "'tset' is not one of"),
        (["demo", "--articles", "3"], "3 is not in the range x>=10"),
        (["export", "concepts", "/dev/null"], "'/dev/null' is not an ordinary file."),
        (["db", "dump", "/dev/full"], "'/dev/full' is not an ordinary file."),
        (["report", "leaderboard", "--output", "/tmp"], "'/tmp' is a directory."),
    ],
)
def test_usage_errors_exit_2(run: Run, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_a_group_alone_shows_its_commands(run: Run) -> None:
    result = run("db")
    assert result.code == 2
    assert "status" in result.err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.npz: no\nsuch   file"), 1, "lvmdb: a.npz: no such file"),
        (UsageError("give one"), 2, "lvmdb: give one"),
        (OSError(28, "No space left on device", "x.npz"), 1,
         "lvmdb: No space left on device: x.npz"),
        (OSError("odd"), 1, "lvmdb: odd"),
        (KeyboardInterrupt(), 130, "lvmdb: interrupted"),
        (click.Abort(), 130, "lvmdb: interrupted"),
    ],
)  # fmt: skip
def test_errors_end_in_one_line(
    run: Run,
    command: Callable[[Callable[[App], None]], None],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    def fail(app: App) -> None:
        raise error

    command(fail)
    result = run("try")
    assert (result.code, result.err.strip(), result.out) == (code, line, "")


def test_a_text_that_is_not_utf8_is_named(
    run: Run, command: Callable[[Callable[[App], None]], None]
) -> None:
    command(lambda app: click.echo("a\udcff".encode()))
    result = run("try")
    assert (result.code, result.err) == (1, "lvmdb: not UTF-8: 'a\\udcff'\n")


def test_a_fault_of_the_program_is_one_line_and_verbose_shows_where(
    run: Run, command: Callable[[Callable[[App], None]], None]
) -> None:
    def fail(app: App) -> None:
        raise ZeroDivisionError("by zero")

    command(fail)
    result = run("try")
    assert (result.code, result.err) == (
        1,
        "lvmdb: ZeroDivisionError: by zero (-v shows where)\n",
    )
    assert "in fail" in run("-v", "try").err


def test_verbose_shows_the_causes(
    run: Run, command: Callable[[Callable[[App], None]], None]
) -> None:
    def fail(app: App) -> None:
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise LvmdbError("the effect") from error

    command(fail)
    assert run("try").err == "lvmdb: the effect\n"
    for arguments in (["-v", "try"], ["try", "--verbose"]):
        said = run(*arguments).err
        assert "KeyError: 'the cause'" in said
        assert said.endswith("lvmdb: the effect\n")


def test_quiet_silences_progress_and_not_answers(
    run: Run, command: Callable[[Callable[[App], None]], None]
) -> None:
    def work(app: App) -> None:
        app.progress.say("working")
        with app.progress.task("counting", 3, "things") as advance:
            advance(3)
        click.echo("answer")

    command(work)
    loud = run("try")
    assert loud.out == "answer\n"
    assert "working" in loud.err
    assert "counting: 3 things" in loud.err
    for arguments in (["-q", "try"], ["try", "--quiet"]):
        assert run(*arguments) == Result(0, "answer\n", "")


def test_a_dsn_before_and_after_the_command(
    run: Run, command: Callable[[Callable[[App], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    command(lambda app: click.echo(app.external_dsn))
    assert run("--dsn", NOWHERE, "try").out == f"{NOWHERE}\n"
    assert run("try", "--dsn", NOWHERE).out == f"{NOWHERE}\n"
    monkeypatch.setenv("LVMDB_DSN", "host=from-the-environment")
    assert run("try").out == "host=from-the-environment\n"
    assert run("--dsn", NOWHERE, "try").out == f"{NOWHERE}\n"
    assert run("--dsn", "host=one", "try", "--dsn", "host=other").out == "host=other\n"


@pytest.mark.parametrize("arguments", [["-v"], []])
def test_a_server_that_does_not_answer(run: Run, arguments: list[str]) -> None:
    result = run(*arguments, "--dsn", NOWHERE, "runs", "list")
    assert result.code == 1
    assert "lvmdb: the database does not answer: " in result.err
    assert "LVMDB_DSN or --dsn" in result.err
    assert "geheim" not in result.err
    assert (result.err.count("\n") == 1) == (not arguments)


@pytest.mark.parametrize("dsn", ["geheim", "host=x password", "postgresql://u:geheim@[::/x"])
def test_what_is_no_dsn_is_not_repeated(run: Run, dsn: str) -> None:
    result = run("--dsn", dsn, "runs", "list")
    assert result.code == 1
    assert "not a PostgreSQL connection string" in result.err
    assert "geheim" not in result.err


def test_the_embedded_servers_commands_refuse_another(run: Run) -> None:
    for name in ("start", "stop"):
        result = run("db", name, "--dsn", NOWHERE)
        assert result.code == 2
        assert result.err.startswith("lvmdb: this is for the embedded server")


def test_status_of_a_server_that_is_not_there(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("LVMDB_LLM_KEY", "LVMDB_TOKEN"):
        monkeypatch.setenv(name, "geheim")
    monkeypatch.setenv("LVMDB_LLM_URL", "https://ann:geheim@models.example/v1")
    monkeypatch.setenv("LVMDB_MODELS", str(tmp_path))
    result = run("db", "status", "--format", "csv")
    assert result.code == 0
    rows = dict(line.split(",", 1) for line in result.out.splitlines())
    assert rows["item"] == "value"
    assert rows["embedded server"] == "stopped: 'lvmdb db start' starts it"
    assert rows["LVMDB_LLM_KEY"] == rows["LVMDB_TOKEN"] == "(set)"
    assert rows["LVMDB_LLM_URL"] == "https://ann:***@models.example/v1"
    assert rows["LVMDB_MODELS"] == str(tmp_path)
    assert rows["LVMDB_DSN"] == ""
    assert "geheim" not in result.out + result.err


def test_an_unknown_variable_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVMDB_DSM", "host=x")
    result = run("runs", "list")
    assert result.code == 1
    assert result.err.startswith("lvmdb: unknown environment variable LVMDB_DSM")
    assert "LVMDB_DSN" in result.err


def test_a_migration_that_is_not_there_is_refused_before_any_server_is_needed(run: Run) -> None:
    result = run("migrate", "--sql", "--to", "0099")
    assert result.code == 1
    assert result.err.startswith("lvmdb: unknown revision '0099'")
    assert run("migrate", "--check", "--sql").code == 2


def test_sql_of_the_migrations_needs_no_server(run: Run, tmp_path: Path) -> None:
    result = run("migrate", "--sql")
    assert result.code == 0
    assert "CREATE TABLE cpe_entry" in result.out
    assert not (tmp_path / "lvmdb-home").exists()


def test_architectures_and_their_options(run: Run) -> None:
    listed = run("architectures").out
    assert "mamba2" in listed
    assert "ensemble" in listed
    assert "hidden" in run("architectures", "lstm", "--format", "json").out
    assert "mean | weighted | vote" in run("architectures", "ensemble", "--format", "json").out
    result = run("architectures", "mamba3")
    assert result.code == 1
    assert "unknown architecture 'mamba3'; did you mean 'mamba2'?" in result.err


def test_reports_are_listed_and_shown_without_a_server(run: Run, tmp_path: Path) -> None:
    listed = run("report").out
    assert "leaderboard" in listed
    shown = run("report", "leaderboard", "--run-id", "7", "--show-sql").out
    assert shown.startswith("SET lvmdb.run_id = 7;\n")
    assert not (tmp_path / "lvmdb-home").exists()


def test_an_output_file_may_be_new_or_a_file_but_nothing_else(tmp_path: Path) -> None:
    kind = OutputFile()
    assert kind.convert(str(tmp_path / "new"), None, None) == tmp_path / "new"
    (tmp_path / "old").touch()
    assert kind.convert(tmp_path / "old", None, None) == tmp_path / "old"
    for wrong in (tmp_path, Path("/dev/null")):
        with pytest.raises(click.BadParameter):
            kind.convert(wrong, None, None)
