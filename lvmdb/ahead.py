"""Reading ahead: a thread makes the next items while this one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Generator[Item], *, name: str, depth: int = 1) -> Generator[Item]:
    """The same items, made ahead by a thread; close it to end the thread.

    Args:
        items: runs wholly in the thread, its closing included; an error in it is raised here.
        name: of the thread.
        depth: items that are ready at a time, at most; one more is in the making.
    """
    ready: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: tuple[Item] | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            with closing(items) as opened:
                for item in opened:
                    if not put((item,)):
                        return
            put(None)
        except BaseException as error:  # handed to the thread that asked
            put(error)

    reader = threading.Thread(target=read, name=name, daemon=True)
    reader.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0]
    finally:
        stopped.set()
        reader.join()
