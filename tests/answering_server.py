"""An HTTP server for tests that answers as it is told to: a real one, in a thread.

    with AnsweringServer() as server:
        server.then(500, "busy").then(429, {}, {"Retry-After": "0"}).then(200, {"fine": True})
        Endpoint(server.url, "server").get("/x")
        server.requests[-1].path

Answers that were laid down are given first, in their order; behind them `server.answer(request)`.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """What was asked. `body` is parsed JSON; None where there is none."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """What is answered; `body` is JSON unless it is bytes. `slow_s` passes between two halves."""

    status: int
    body: Any
    headers: Mapping[str, str]
    slow_s: float = 0.0


class AnsweringServer:
    """The server; usable from its `with` on.

    Attributes:
        url: its address.
        answer: called for each request that no answer was laid down for.
        requests: what was asked so far.
        most_at_once: how many requests were being answered at the same time, at most.
    """

    def __init__(self, answer: Callable[[Request], Any] | None = None) -> None:
        self.answer = answer or (lambda _: {})
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._laid_down: deque[Answer] = deque()
        self._lock = threading.Lock()
        self._at_once = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=lambda: self._server.serve_forever(poll_interval=0.01), daemon=True
        )

    def then(
        self,
        status: int,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        slow_s: float = 0.0,
    ) -> AnsweringServer:
        """Lay down one answer behind those that are."""
        self._laid_down.append(Answer(status, body, headers or {}, slow_s))
        return self

    def __enter__(self) -> AnsweringServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, request: Request) -> Answer:
        """What a request is answered with."""
        with self._lock:
            self.requests.append(request)
            laid_down = self._laid_down.popleft() if self._laid_down else None
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if laid_down is not None:
                return laid_down
            answer = self.answer(request)
            return answer if isinstance(answer, Answer) else Answer(200, answer, {})
        finally:
            with self._lock:
                self._at_once -= 1


def _handler(server: AnsweringServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def _respond(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.loads(sent) if sent else None
            request = Request(self.command, self.path, dict(self.headers.items()), body)
            answer = server.take(request)
            content = answer.body if isinstance(answer.body, bytes) else _json(answer.body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                half = len(content) // 2
                self.wfile.write(content[:half])
                time.sleep(answer.slow_s)
                self.wfile.write(content[half:])
            except OSError:  # the client has gone
                self.close_connection = True

    return Handler


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()
