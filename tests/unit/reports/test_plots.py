"""What pictures share: names that do not overlap, and the optional package."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from lvmdb.errors import MissingDependencyError
from lvmdb.reports.forest import forest
from lvmdb.reports.learning import learning_curves
from lvmdb.reports.plots import cut, fit, new_figure, run_name, spread
from lvmdb.reports.recall import recall_curves


def test_labels_are_spread_in_order_and_stay_inside() -> None:
    assert spread([50.0, 20.0], 10, 0, 100) == [50.0, 20.0]
    # 52, 50 and 51 are too near: 50 stays, the others move up.
    assert spread([52.0, 50.0, 51.0], 10, 0, 100) == [70.0, 50.0, 60.0]
    # At the top they are pushed down again: half a gap below 100.
    assert spread([99.0, 98.0, 97.0], 10, 0, 100) == [95.0, 85.0, 75.0]
    assert spread([-5.0, 1.0], 10, 0, 100) == [5.0, 15.0]


def test_only_the_architecture_of_a_long_name_is_cut() -> None:
    assert cut("abcd", 4) == "abcd"
    assert cut("abcde", 4) == "abc…"
    assert run_name("lstm", 7) == "lstm · run 7"
    assert run_name("x" * 50, 123456).endswith("x… · run 123456")


def test_texts_are_made_smaller_alike_until_they_fit() -> None:
    figure = new_figure()
    texts = [figure.text(0, 0, text, fontsize=10) for text in ("a", "wide " * 40)]
    fit(texts, 5000)
    assert [text.get_fontsize() for text in texts] == [10, 10]
    fit(texts, 300)
    assert texts[0].get_fontsize() == texts[1].get_fontsize() < 10
    assert texts[1].get_window_extent().width < 350  # about: letters have whole pixels


@pytest.mark.parametrize("draw", [learning_curves, recall_curves, forest])
def test_without_matplotlib_the_extra_is_named(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    row = {"run_id": 1, "architecture": "lstm", "split": "train", "epoch": 1, "value": 1.0}
    rows = [row] if draw is learning_curves else [{}]
    with pytest.raises(MissingDependencyError, match=r"pip install 'lvmdb\[plots\]'"):
        draw(rows)
