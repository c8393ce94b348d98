"""vec2text's process, as the one that started it sees it: one question at a time, over a pipe."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any

from lvmdb.decoding.correctors import Weights
from lvmdb.errors import EncoderError, EndpointError, ServiceError
from lvmdb.settings import child_environment

LOAD_SECONDS, ANSWER_SECONDS = 600.0, 600.0
"""In which weights are loaded, and a question is answered; after that the process is ended."""


class ChildEndedError(EndpointError):
    """The process ended, by itself or because it was too slow; another must be started."""

    def __init__(self, message: str) -> None:
        super().__init__(message, passing=True)


class Child:
    """A process with an inverter, its corrector, and their encoder.

    Args:
        command: as `vec2text_environment.command` gives it.
        ended: called when it has ended, whoever ended it.

    Raises:
        ServiceError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], ended: Callable[[], object] = lambda: None) -> None:
        self._ended = ended
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                # What it prints, of which there is much, is for the log. The hub is not asked:
                # everything is in folders by now.
                env=child_environment({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}),
            )
        except OSError as error:
            raise ServiceError(f"cannot start {command[0]}: {error.strerror}") from error
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._asking = threading.Lock()
        threading.Thread(target=self._read, name="lvmdb-vec2text", daemon=True).start()

    def load(self, weights: Weights, seconds: float = LOAD_SECONDS) -> None:
        """Load both halves and their encoder.

        Raises:
            EncoderError: they do not load.
            ChildEndedError: it ended.
        """
        folders = {
            "inverter": str(weights.inverter.folder),
            "corrector": str(weights.corrector.folder),
            "base": str(weights.base),
            "embedder": str(weights.embedder),
            "pooling": weights.pooling,
        }
        try:
            self.ask({"load": folders}, seconds)
        except ServiceError as error:
            raise EncoderError(
                f"'{weights.inverter.name}' and '{weights.corrector.name}' do not load: {error}"
            ) from error

    def ask(self, question: dict[str, Any], seconds: float = ANSWER_SECONDS) -> Any:
        """The answer to a question, as `vec2text_process` describes them.

        Raises:
            ServiceError: it cannot be answered; the message says why.
            ChildEndedError: it ended.
        """
        with self._asking:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(question) + "\n")
                self._process.stdin.flush()
                line = self._answers.get(timeout=seconds)
            except (OSError, ValueError):
                line = None
            except queue.Empty:
                self.close()
                raise ChildEndedError(
                    f"vec2text gave no answer within {seconds:g} s, and was ended: ask for fewer "
                    "steps, a narrower beam, or fewer vectors"
                ) from None
        if line is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            code = self._process.returncode
            how = f"with code {code}" if code is None or code >= 0 else f"by signal {-code}"
            raise ChildEndedError(f"vec2text's process ended {how}: the log says more")
        answer = json.loads(line)
        if "error" in answer:
            raise ServiceError(str(answer["error"]))
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put(None)
        self._ended()
