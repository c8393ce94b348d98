"""Every error that a user can meet.

    LvmdbError
    ├── UsageError              a flag or an argument is wrong (exit code 2)
    ├── SettingsError           an environment variable is wrong
    ├── DatabaseError           the server does not answer, or refuses
    │   ├── ConnectionLostError the server went away, or is not there
    │   ├── ServerError         the embedded server did not start or stop
    │   └── RevisionError       the database is at another migration than the program
    ├── UnknownNameError        a dataset, run, architecture ... that is not there
    ├── MissingDependencyError  an optional package is not installed
    ├── InputError              a file is missing, truncated or malformed
    ├── EndpointError           an HTTP endpoint refuses, or answers with something else
    │   └── EndpointAwayError   whatever it is asked: it is not there, or knows no such key or model
    ├── CorpusError             concepts, articles or datasets contradict each other
    │   └── EncoderError        an encoder is missing, or is not the one that it claims to be
    ├── SequenceError           a sequence set is unusable, or its data changed
    ├── ModelError              a configuration or checkpoint does not fit
    └── RunError                a run is not in a state that allows this
        ├── RunTakenError       another process has the run
        │   └── RunWaitsError   another process has, or will have, what it starts from
        ├── RunCancelledError   somebody cancelled it
        └── DivergedError       its loss is no longer a number

Each message says what is wrong and what to do next, on one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LvmdbError(Exception):
    """Base of all errors shown to a user as one line; `exit_code` is the program's."""

    exit_code = 1


class UsageError(LvmdbError):
    """A flag or an argument is wrong."""

    exit_code = 2


class SettingsError(LvmdbError):
    """An environment variable holds what it must not."""


class DatabaseError(LvmdbError):
    """The database server does not answer, is too old, or refused a statement."""


class ConnectionLostError(DatabaseError):
    """The server went away or is not there; it may come back (`db.patience`)."""


class ServerError(DatabaseError):
    """The embedded server did not start or stop."""


class RevisionError(DatabaseError):
    """The database is at another migration than the program."""


class UnknownNameError(LvmdbError):
    """A name or id that is not there; the message offers the nearest spelling.

    Args:
        kind: what was looked for, e.g. `"dataset"`.
        name: the name that was given.
        known: the names that exist.
        hint: what to do next; by default the known names are listed.
    """

    def __init__(
        self, kind: str, name: object, known: Iterable[object] = (), hint: str | None = None
    ) -> None:
        names = [str(k) for k in known]
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
        parts = [f"unknown {kind} '{name}'"]
        if near:
            parts.append(f"did you mean '{near[0]}'?")
        if hint:
            parts.append(hint)
        elif names:
            parts.append(f"known: {', '.join(sorted(names)[:40])}")
        super().__init__("; ".join(parts))


class MissingDependencyError(LvmdbError):
    """An optional package is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}': pip install 'lvmdb[{extra}]'")


class InputError(LvmdbError):
    """A file is missing, truncated or malformed; the message names file and line."""


class EndpointError(LvmdbError):
    """An HTTP endpoint is late, refuses, or answers with something else.

    Args:
        message: for people; without keys.
        status: of its answer; None where there was none.
        passing: the same request may succeed later.
        retry_after: seconds that the endpoint asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        passing: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.passing = passing
        self.retry_after = retry_after


class EndpointAwayError(EndpointError):
    """Nothing answers there, or the key or the model is refused: no other request fares better."""


class CorpusError(LvmdbError):
    """Concepts, articles or datasets contradict each other."""


class EncoderError(CorpusError):
    """An encoder is missing, or is not the one that it claims to be."""


class SequenceError(LvmdbError):
    """A sequence set is unusable, or the data under it changed."""


class ModelError(LvmdbError):
    """A model's configuration, kernel or checkpoint does not fit."""


class RunError(LvmdbError):
    """A run is not in a state that allows what was asked."""


class RunTakenError(RunError):
    """Another process has the run, or had it in the meantime."""


class RunWaitsError(RunTakenError):
    """A run starts from another, which is in the queue or at another process."""


class RunCancelledError(RunError):
    """The run was cancelled, before it began or while it ran."""


class DivergedError(RunError):
    """The loss of a run is no longer a number; the same row and data give the same again."""
