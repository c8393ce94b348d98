"""Loading and running models without the bars and notes of the libraries below."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the progress bars and notes of the libraries below; their errors still come."""
    names = ("sentence_transformers", "transformers", "huggingface_hub")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    bars = _switch_bars(False)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            _switch_bars(True)


def _switch_bars(on: bool) -> bool:
    """Switches the bars of transformers, and says whether they were on."""
    try:
        from transformers.utils import logging as chatter
    except ImportError:
        return False
    was_on = bool(chatter.is_progress_bar_enabled())
    if on:
        chatter.enable_progress_bar()
    else:
        chatter.disable_progress_bar()
    return was_on
