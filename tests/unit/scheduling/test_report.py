"""What a worker's process reports: nobody reads the pipe before it has ended."""

from __future__ import annotations

import json

import pytest

from lvmdb.scheduling import child
from lvmdb.scheduling.policy import Ended, Ending


@pytest.mark.parametrize("character", ["x", "ж", "😀", "\x01", "\udc80"])
def test_a_report_fits_into_a_pipe_whatever_it_is_made_of(character: str) -> None:
    message, trace = character * child.LONGEST_MESSAGE, character * (child.LONGEST_TRACE - 4)
    data = child.report(Ended(Ending.ERROR, message, trace + " end"))
    assert len(data) <= child.LARGEST_REPORT < 65_536
    found = json.loads(data.decode())
    assert (found["ending"], found["message"]) == ("error", message)
    assert found["traceback"].endswith(f"{character} end")


def test_a_short_report_is_left_as_it_is() -> None:
    data = child.report(Ended(Ending.ERROR, "Wärme", "Traceback\n  ж"))
    assert json.loads(data) == {
        "ending": "error", "message": "Wärme", "traceback": "Traceback\n  ж"
    }  # fmt: skip
    assert json.loads(child.report(Ended(Ending.DONE)))["traceback"] is None
