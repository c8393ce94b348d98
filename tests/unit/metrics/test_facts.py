"""Names and numbers that a text has and its sources have not: the rule, by example."""

from __future__ import annotations

import pytest

from lvmdb.metrics.facts import added_facts


@pytest.mark.parametrize(
    ("text", "source", "added"),
    [
        ("Born in 1871 in Oslo.", "He was born in 1871.", ("Oslo",)),
        ("It opened in 1872.", "It opened in 1871.", ("1872",)),
        ("It has 1,234,567 books.", "There are 1234567 books.", ()),
        ("From 1871 to 1880.", "In 1871-1880.", ()),
        ("It is 3.0 high.", "It is 3 high.", ("3.0",)),
        ("On the 21st, on A5.", "On the 20th, on A4.", ("21", "5")),
        # Any word has a capital where a sentence begins; one of capitals alone is a name there too.
        ('It is old. "Ships" came! Storms went? Rain: Snow.', "it", ()),
        ("NATO met.", "They met.", ("NATO",)),
        ("In the Harbour of the OLD town.", "the harbour of the old town", ()),
        ("So said Anne's brother and Jean-Luc.", "So said Anne.", ("Jean-Luc",)),
        ("A I B.", "", ()),
        ("dort das Haus Österreich", "das Haus", ("Österreich",)),
        ("it is \u00bd Oslo", "it is 1\u20442 oslo", ()),
        ("", "Oslo 1871", ()),
    ],
)  # fmt: skip
def test_what_is_added(text: str, source: str, added: tuple[str, ...]) -> None:
    assert added_facts(text, [source]).added == added


def test_all_are_counted_once_and_any_source_will_do() -> None:
    found = added_facts("In Oslo, Bergen and Oslo in 1905.", ["from Oslo", "of 1905"])
    assert found.all == ("Oslo", "Bergen", "1905")
    assert found.added == ("Bergen",)
