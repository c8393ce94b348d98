"""What was made a moment ago and is dear to make: kept for some seconds, made once for all."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from lvmdb.services.searchers import again
from lvmdb.services.work import Work

Thing = TypeVar("Thing")


class Recent(Generic[Thing]):
    """Things by key, made in the threads of a service, one at a time.

    Args:
        work: of the service.
        seconds: how long they are kept.
        most: how many.
    """

    def __init__(self, work: Work, seconds: float, most: int = 32) -> None:
        self._work, self._seconds, self._most = work, seconds, most
        self._kept: OrderedDict[Hashable, tuple[float, Thing]] = OrderedDict()
        self._making = asyncio.Lock()

    async def get(self, key: Hashable, make: Callable[[], Thing]) -> Thing:
        """The thing of a key; `make` asks the database, and is tried again if that was away.

        Raises:
            What `make` raises; ProblemError: 504, it took too long.
        """
        if (found := self._fresh(key)) is not None:
            return found[1]
        async with self._making:
            # Somebody else may have had it made meanwhile.
            if (found := self._fresh(key)) is not None:
                return found[1]
            made = await self._work.run(lambda _: again(make))
            self._kept[key] = time.monotonic(), made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return made

    def _fresh(self, key: Hashable) -> tuple[float, Thing] | None:
        found = self._kept.get(key)
        if found is not None and time.monotonic() - found[0] >= self._seconds:
            del self._kept[key]
            return None
        return found
