"""The environment: what is read, what is refused, and what is never shown."""

from __future__ import annotations

import os
import pwd
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import conninfo

from lvmdb.errors import SettingsError
from lvmdb.settings import (
    SECRETS,
    Settings,
    child_environment,
    redact,
    thread_counts,
    visible_gpus,
)


def test_every_variable_is_optional() -> None:
    settings = Settings.from_environment({})
    root = Path("/var/lib/lvmdb")
    assert settings.home == root if os.geteuid() == 0 else settings.home.name == "lvmdb"
    assert {f.name for f in fields(Settings) if getattr(settings, f.name) is None} == {
        "dsn", "models", "encoder_key", "llm_url", "llm_model", "llm_key", "token",
        "vec2text", "decoding_url",
    }  # fmt: skip


def test_roots_home_is_where_others_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Settings.from_environment({}).home == Path("/var/lib/lvmdb")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ann/data")
    assert Settings.from_environment({}).home.name == "lvmdb"
    assert Settings.from_environment({}).home != Path("/var/lib/lvmdb")


def test_an_empty_variable_counts_as_not_set() -> None:
    empty = {f"LVMDB_{f.name.upper()}": "" for f in fields(Settings)}
    assert Settings.from_environment(empty) == Settings.from_environment({})


def test_folders_are_absolute_and_know_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment({"LVMDB_HOME": "here"}).home == tmp_path / "here"
    mine = Path(pwd.getpwuid(os.getuid()).pw_dir)
    monkeypatch.setenv("HOME", str(mine))
    assert Settings.from_environment({"LVMDB_HOME": "~/x"}).home == mine / "x"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LVMDB_DSM", "x", "unknown environment variable LVMDB_DSM; known: .*LVMDB_DSN"),
        ("LVMDB_", "x", "unknown environment variable LVMDB_;"),
        ("LVMDB_home", "x", "unknown environment variable LVMDB_home;"),
        ("LVMDB_HOME", "{file}", "LVMDB_HOME is not a folder: .*file"),
        ("LVMDB_MODELS", "{file}", "LVMDB_MODELS is not a folder: .*file"),
        ("LVMDB_MODELS", "{file}-missing", "LVMDB_MODELS is not a folder"),
        ("LVMDB_HOME", "a\0b", "LVMDB_HOME is not a path"),
    ],
)
def test_what_is_refused(tmp_path: Path, variable: str, value: str, said: str) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SettingsError, match=said) as raised:
        Settings.from_environment({variable: value.format(file=file)})
    assert "\n" not in str(raised.value)


def test_the_test_suites_own_variables_are_left_alone() -> None:
    Settings.from_environment({"LVMDB_TEST_DSN": "host=x", "LVMDBX": "1", "OTHER": "1"})


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings.from_environment({}).dsn = "host=x"  # type: ignore[misc]


def test_secrets_are_shown_as_set() -> None:
    settings = Settings.from_environment(
        {"LVMDB_TOKEN": "geheim", "LVMDB_LLM_KEY": "geheim", "LVMDB_DSN": "password=geheim host=x",
         "LVMDB_ENCODER_KEY": "geheim",
         "LVMDB_LLM_URL": "http://ann:geheim@models/v1"}
    )  # fmt: skip
    shown = settings.shown()
    assert set(shown) == {f"LVMDB_{f.name.upper()}" for f in fields(Settings)}
    assert "geheim" not in str(shown)
    assert [shown[f"LVMDB_{name.upper()}"] for name in sorted(SECRETS)] == ["(set)"] * 3
    assert shown["LVMDB_DSN"] == "password=*** host=x"
    assert shown["LVMDB_MODELS"] is None


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://ann:geheim@db/x", "postgresql://ann:***@db/x"),
        ("postgresql://ann:ge@heim@db/x", "postgresql://ann:***@db/x"),
        ("postgresql://ann@db:5433/x", "postgresql://ann@db:5433/x"),
        ("postgresql://db/x?user=ann&password=geheim&port=1",
         "postgresql://db/x?user=ann&password=***&port=1"),
        ("host=db password=geheim user=ann", "host=db password=*** user=ann"),
        ("host=db password = 'ge heim' user=ann", "host=db password = *** user=ann"),
        (r"password='it\'s geheim' host=db", "password=*** host=db"),
        (r"password=ge\ heim host=db", "password=*** host=db"),
        ("sslpassword=geheim host=db", "sslpassword=*** host=db"),
        ("host=db dbname=x", "host=db dbname=x"),
    ],
)  # fmt: skip
def test_redaction(dsn: str, shown: str) -> None:
    assert redact(dsn) == shown


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_no_password_survives_redaction(password: str) -> None:
    secret = f"<{password}>"
    dsn = conninfo.make_conninfo(host="db", user="ann", password=secret, port=5433)
    shown = redact(dsn)
    assert secret not in shown
    assert conninfo.conninfo_to_dict(shown) == {
        "host": "db", "user": "ann", "password": "***", "port": "5433",
    }  # fmt: skip


def test_thread_settings_are_those_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    assert thread_counts() == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_counts() == {"OMP_NUM_THREADS": "3"}


def test_a_process_is_given_this_environment_with_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("PGPASSWORD", "secret")
    told = child_environment({"OMP_NUM_THREADS": "2"})
    assert (told["OMP_NUM_THREADS"], told["PGPASSWORD"]) == ("2", "secret")
    assert os.environ["OMP_NUM_THREADS"] == "8"


@pytest.mark.parametrize(
    ("value", "found"), [("", []), ("0", ["0"]), (" 2,GPU-89 ,", ["2", "GPU-89"])]
)
def test_gpus_that_this_process_may_see(
    monkeypatch: pytest.MonkeyPatch, value: str, found: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert visible_gpus() == found
