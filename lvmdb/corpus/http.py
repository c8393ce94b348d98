"""JSON over HTTP to endpoints that encode or write text: time-outs, tries, and errors of one line.

A connection that fails, an answer that is late or cut off, 429 and 5xx are tried again: the wait
doubles each time, at random by half (so that many callers do not come back at once), and is what
`Retry-After` says where the server says it. Any other answer than 2xx is final. The key goes into
one header and nowhere else; what an endpoint repeats of it is left out of messages.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from lvmdb.errors import (
    EndpointAwayError,
    EndpointError,
    MissingDependencyError,
    SettingsError,
)

if TYPE_CHECKING:
    import httpx2
    from tenacity import RetryCallState

MOST_BYTES = 256 << 20
"""What an answer may hold; more is no answer to any question that is asked here."""


@dataclass(frozen=True)
class Patience:
    """How long an endpoint is waited for, and how often it is asked.

    Attributes:
        connect_s: seconds for a connection.
        answer_s: seconds for the whole answer.
        tries: how often a request is sent at most.
        first_wait_s, longest_wait_s: seconds before the second try, and at most between two.
        longest_retry_after_s: what a server may ask for; more ends the tries.
    """

    connect_s: float = 10.0
    answer_s: float = 120.0
    tries: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 20.0
    longest_retry_after_s: float = 120.0

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError("tries must be at least 1")
        if min(self.connect_s, self.answer_s) <= 0:
            raise ValueError("connect_s and answer_s must be above 0")
        if min(self.first_wait_s, self.longest_wait_s, self.longest_retry_after_s) < 0:
            raise ValueError("waits must not be below 0")


class Endpoint:
    """One HTTP server that takes and gives JSON; may be used by several threads at once.

    Args:
        url: its address, e.g. `http://127.0.0.1:11434/v1`; paths are put behind it.
        purpose: what it is for and where its address is set, for messages, e.g. `"language model
            (LVMDB_LLM_URL)"`.
        key: sent as a bearer token.
        key_name: where the key is set, for messages.
        patience: time-outs and tries.
        connections: at most so many at once.

    Attributes:
        url: without user name, password and query, fit for messages and rows.

    Raises:
        SettingsError: the address is none, or the key cannot be sent.
        MissingDependencyError: httpx2 or tenacity is not installed.
    """

    def __init__(
        self,
        url: str,
        purpose: str,
        *,
        key: str | None = None,
        key_name: str = "its key",
        patience: Patience | None = None,
        connections: int = 8,
    ) -> None:
        try:
            import httpx2
            import tenacity  # noqa: F401 - told now, not at the first failure
        except ImportError as error:
            package = error.name or "httpx2"
            raise MissingDependencyError(package, "endpoints", "talking to an endpoint") from None
        parts = _checked(url, purpose)
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            # The library would name the whole header.
            raise SettingsError(
                f"{key_name} holds a character that no HTTP header can: set it anew"
            )
        self.url, self.purpose = shown(url), purpose
        self._base, self._query = f"{parts.scheme}://{parts.netloc}{parts.path}", parts.query
        self._key, self._key_name = key, key_name
        self.patience = patience or Patience()
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else None,
            timeout=httpx2.Timeout(self.patience.answer_s, connect=self.patience.connect_s),
            limits=httpx2.Limits(max_connections=connections),
            # A proxy is for other machines; and certificates, which take time to load, are for TLS.
            trust_env=not _is_loopback(parts.hostname or ""),
            verify=parts.scheme == "https",
        )

    def get(self, path: str) -> Any:
        """The JSON at a path.

        Raises:
            EndpointError: as `post`.
        """
        return self._patiently("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        """The JSON that answers `body`.

        Raises:
            EndpointAwayError: the endpoint is not there, or refuses the key.
            EndpointError: it is late, refuses, or answers with something else.
        """
        return self._patiently("POST", path, json.dumps(body, ensure_ascii=False).encode())

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _patiently(self, method: str, path: str, body: bytes | None) -> Any:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        retrying = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, EndpointError) and e.passing),
            stop=stop_after_attempt(self.patience.tries),
            wait=self._wait,
            reraise=True,
        )
        answer: Any = retrying(self._once, method, path, body)
        return answer

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, EndpointError) and error.retry_after is not None:
            return error.retry_after
        longest = min(
            self.patience.first_wait_s * 2.0 ** (state.attempt_number - 1),
            self.patience.longest_wait_s,
        )
        return longest * random.uniform(0.5, 1.0)

    def _once(self, method: str, path: str, body: bytes | None) -> Any:
        """One request; an error that may pass is marked so."""
        import httpx2

        deadline = time.monotonic() + self.patience.answer_s
        try:
            with self._client.stream(
                method,
                self._base.rstrip("/") + path + (f"?{self._query}" if self._query else ""),
                content=body,
                headers={"Content-Type": "application/json"} if body is not None else None,
            ) as response:
                content = self._without_key(self._read(response, deadline))
        except httpx2.TimeoutException:
            raise self._late() from None
        except httpx2.TransportError as error:
            reason = str(error).strip() or type(error).__name__
            hint = "is it running, and is the address right?"
            told = f"does not answer ({reason}): {hint}"
            raise self._error(told, passing=True, away=True) from None
        except httpx2.HTTPError as error:
            raise self._error(f"gave no usable answer ({error})") from None
        if not response.is_success:
            raise self._refusal(response, content)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            begin = content[:80].decode(errors="replace")
            hint = "is this the address of the API?"
            raise self._error(f"gave no JSON but {begin!r}: {hint}", response.status_code) from None

    def _read(self, response: httpx2.Response, deadline: float) -> bytes:
        # The library's time-out is for each piece, and pieces may trickle for ever.
        parts, size = [], 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise self._late()
            if size > MOST_BYTES:
                raise self._error(f"gave an answer of more than {MOST_BYTES >> 20} MiB")
        return b"".join(parts)

    def _late(self) -> EndpointError:
        return self._error(
            f"gave no answer within {self.patience.answer_s:g} s: is it overloaded, or is its "
            "model still loading?",
            passing=True,
        )

    def _refusal(self, response: httpx2.Response, content: bytes) -> EndpointError:
        status = response.status_code
        said = _message(content)
        told = f"answered {status} {response.reason_phrase}{f' ({said})' if said else ''}"
        if status in (401, 403):
            return self._error(f"{told}: check {self._key_name}", status, away=True)
        if status == 404:
            told = f"{told}: check its address, and the model's name"
            return self._error(told, status, away=True)
        if 300 <= status < 400:
            return self._error(f"{told}: give the address that it leads to", status, away=True)
        passing = status == 429 or status >= 500
        after = _retry_after(response.headers.get("Retry-After")) if passing else None
        if after is not None and after > self.patience.longest_retry_after_s:
            return self._error(
                f"{told}, and asks for {after:.0f} s of rest: come back then", status
            )
        return self._error(
            f"{told}: try again later" if passing else told, status, passing=passing, after=after
        )

    def _error(
        self,
        told: str,
        status: int | None = None,
        *,
        passing: bool = False,
        away: bool = False,
        after: float | None = None,
    ) -> EndpointError:
        message = " ".join(f"the {self.purpose} at {self.url} {told}".split())
        kind = EndpointAwayError if away else EndpointError
        return kind(message, status=status, passing=passing, retry_after=after)

    def _without_key(self, content: bytes) -> bytes:
        """What was answered, without the key that some servers repeat when they refuse it."""
        return content.replace(self._key.encode(), b"***") if self._key else content


def shown(url: str) -> str:
    """An address without what may be secret in it: user name, password, query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _checked(url: str, purpose: str) -> SplitResult:
    """The parts of an address.

    Raises:
        SettingsError: it is not one of HTTP.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if usable and url.isprintable() and " " not in url:
            return parts
    except ValueError:  # a port that is none
        pass
    raise SettingsError(
        f"the address of the {purpose} is not of the form http://host:port/path: set it anew"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _message(content: bytes) -> str:
    """What an error's body says: the `error` of an OpenAI-like answer, else its beginning."""
    try:
        told: Any = json.loads(content)
    except (ValueError, RecursionError):
        told = content[:300].decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(told, dict) and name in told:
            told = told[name]
    return " ".join((told if isinstance(told, str) else json.dumps(told)).split())[:300]


def _retry_after(value: str | None) -> float | None:
    """Seconds that `Retry-After` asks for: a number, or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal() and value.isascii():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
