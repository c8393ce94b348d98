"""`LVMDB_*` environment variables as one frozen object: the only reader of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import platformdirs

from lvmdb.errors import SettingsError

SECRETS = frozenset({"encoder_key", "llm_key", "token"})
"""Settings that never appear in output, rows or logs."""


@dataclass(frozen=True)
class Settings:
    """What the environment says. Every variable is optional.

    Attributes:
        home: `LVMDB_HOME`, folder of the embedded server, caches and pictures.
        dsn: `LVMDB_DSN`, another PostgreSQL server than the embedded one.
        models: `LVMDB_MODELS`, folder of encoder and decoder weights.
        encoder_key: `LVMDB_ENCODER_KEY`, the key of encoders' endpoints.
        llm_url: `LVMDB_LLM_URL`, an OpenAI-compatible endpoint.
        llm_model: `LVMDB_LLM_MODEL`, the model to ask for there.
        llm_key: `LVMDB_LLM_KEY`, its key.
        token: `LVMDB_TOKEN`, what the HTTP services ask of their callers.
        vec2text: `LVMDB_VEC2TEXT`, the folder of vec2text's environment.
        decoding_url: `LVMDB_DECODING_URL`, a decoding service elsewhere.
    """

    home: Path
    dsn: str | None = None
    models: Path | None = None
    encoder_key: str | None = None
    llm_url: str | None = None
    llm_model: str | None = None
    llm_key: str | None = None
    token: str | None = None
    vec2text: Path | None = None
    decoding_url: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the variables; an empty one counts as not set.

        Raises:
            SettingsError: an unknown `LVMDB_` variable (a misspelt one would be ignored), or a
                folder that is not one.
        """
        env = os.environ if environment is None else environment
        known = {f"LVMDB_{f.name.upper()}" for f in fields(cls)}
        # Variables of the test suite are its own.
        unknown = sorted(
            name
            for name in env
            if name.startswith("LVMDB_") and name not in known and not name.startswith("LVMDB_TEST")
        )
        if unknown:
            raise SettingsError(
                f"unknown environment variable {unknown[0]}; known: {', '.join(sorted(known))}"
            )
        values = {f.name: env.get(f"LVMDB_{f.name.upper()}") or None for f in fields(cls)}
        models = _folder("LVMDB_MODELS", values.pop("models"))
        if models is not None and not models.is_dir():
            raise SettingsError(f"LVMDB_MODELS is not a folder: {models}")
        home = _folder("LVMDB_HOME", values.pop("home")) or _default_home()
        if home.exists() and not home.is_dir():
            raise SettingsError(f"LVMDB_HOME is not a folder: {home}")
        vec2text = _folder("LVMDB_VEC2TEXT", values.pop("vec2text"))
        return cls(home=home, models=models, vec2text=vec2text, **values)

    def shown(self) -> dict[str, str | None]:
        """Variable names and values for people; secrets only as set or not."""
        return {
            f"LVMDB_{f.name.upper()}": _shown(f.name, getattr(self, f.name)) for f in fields(self)
        }


def thread_counts() -> dict[str, str]:
    """The thread settings that change results or speed, for a run's environment."""
    names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: os.environ[name] for name in names if name in os.environ}


def child_environment(
    changes: Mapping[str, str], unless_set: Mapping[str, str] | None = None
) -> dict[str, str]:
    """This process's environment with changes, for a process that it starts.

    Args:
        changes: what is other there.
        unless_set: what is there if this process's has no word on it.
    """
    return {**(unless_set or {}), **os.environ, **changes}


def visible_gpus() -> list[str] | None:
    """The GPUs that `CUDA_VISIBLE_DEVICES` leaves to this process; None: all that there are."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if named is None else [name.strip() for name in named.split(",") if name.strip()]


def process_place() -> tuple[int, int, int]:
    """Rank, number of processes and rank on this machine, as `torchrun` says; alone `(0, 1, 0)`."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    # Cluster software sets some of them for purposes of its own; torchrun sets them all.
    if not all(os.environ.get(name) for name in names):
        return 0, 1, 0
    try:
        rank, size, local_rank = (int(os.environ[name]) for name in names[:3])
    except ValueError as error:
        raise SettingsError(f"RANK, WORLD_SIZE and LOCAL_RANK are numbers: {error}") from error
    return rank, size, local_rank


def _default_home() -> Path:
    # Root's home is closed to the user that the embedded server then runs as.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/lvmdb")
    return platformdirs.user_data_path("lvmdb")


def _folder(variable: str, value: str | None) -> Path | None:
    if value is None:
        return None
    if "\0" in value:
        raise SettingsError(f"{variable} is not a path")
    return Path(value).expanduser().absolute()


def _shown(name: str, value: object) -> str | None:
    if value is None:
        return None
    if name in SECRETS:
        return "(set)"
    if name in ("decoding_url", "dsn", "llm_url"):
        return redact(str(value))
    return str(value)


def redact(dsn: str) -> str:
    """A connection string, as a URI or as `key=value` pairs, without its password."""
    if re.match(r"\w+://", dsn):
        dsn = re.sub(r"^(\w+://[^:/@]*):[^/]*@", r"\1:***@", dsn)
        return re.sub(r"(password=)[^&]*", r"\1***", dsn)
    value = r"'(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)+"
    return re.sub(rf"(password\s*=\s*)(?:{value})", r"\1***", dsn, flags=re.DOTALL)
