"""Which inverter and corrector belong to an encoder, and where their weights are.

A corrector has learned one space, and inside it is the encoder that made that space. GTR-T5 has two
spaces in common use, with correctors for each; for other encoders they must be trained and named.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lvmdb.corpus.encoder import EncoderSpec
from lvmdb.corpus.weights import (
    TOKENIZER_ONLY,
    WITH_WEIGHTS,
    find_weights,
    has_tokenizer,
    has_weights,
    revision,
)
from lvmdb.errors import EncoderError, UsageError
from lvmdb.settings import Settings

GTR = "sentence-transformers/gtr-t5-base"


@dataclass(frozen=True)
class Pair:
    """The names of the two halves: on the hub, or of folders.

    Attributes:
        inverter: writes the first guess.
        corrector: improves it.
    """

    inverter: str
    corrector: str


PAIRS = {
    ("sentence-transformers", GTR): Pair(
        "ielabgroup/vec2text_gtr-base-st_inversion", "ielabgroup/vec2text_gtr-base-st_corrector"
    ),
    ("vec2text", GTR): Pair("jxm/gtr__nq__32", "jxm/gtr__nq__32__correct"),
}
"""By an encoder's kind and weights."""

_EMBEDDERS = {"gtr_base": (GTR, "mean"), "gtr_base_st": (GTR, "sentence-transformers")}
"""What vec2text calls the encoders of these correctors: weights, and what is made of them."""

_WHOLE = "sentence-transformers/"


@dataclass(frozen=True)
class Half:
    """One half, found.

    Attributes:
        name: as it was asked for.
        folder: where it is.
        revision: SHA-256 of its weights, or the hub's commit.
    """

    name: str
    folder: Path
    revision: str


@dataclass(frozen=True)
class Weights:
    """All that vec2text's process loads.

    Attributes:
        inverter, corrector: the two halves.
        base: folder of the tokenizer of the T5 that both grew from.
        embedder: folder of the encoder inside.
        pooling: `sentence-transformers`, or `mean` of the T5's states.
    """

    inverter: Half
    corrector: Half
    base: Path
    embedder: Path
    pooling: str


def pair_of(spec: EncoderSpec | None, inverter: str | None, corrector: str | None) -> Pair:
    """The pair that was named; else the one that belongs to the encoder.

    Args:
        spec: of the encoder; None where it is known by its vectors alone.
        inverter, corrector: what was named.

    Raises:
        UsageError: only one of the two was named.
        EncoderError: none was, and none is known for this encoder.
    """
    require_both(inverter, corrector)
    if inverter is not None and corrector is not None:
        return Pair(inverter, corrector)
    found = None if spec is None else PAIRS.get((spec.kind, spec.weights))
    if found is None:
        name = "this encoder" if spec is None else f"encoder '{spec.name}'"
        raise EncoderError(
            f"no vec2text corrector is known for {name}: name one that was trained on its vectors "
            f"with --inverter and --corrector (those on the hub are for {GTR} and vec2text/"
            "gtr-t5-base)"
        )
    return found


def require_both(inverter: str | None, corrector: str | None) -> None:
    """Refuse one half without the other.

    Raises:
        UsageError: only one of the two was named.
    """
    if (inverter is None) != (corrector is None):
        raise UsageError("--inverter and --corrector go together: they were trained as a pair")


def find(settings: Settings, pair: Pair) -> Weights:
    """Look for both halves and what they need, as for encoders, and fetch what is not here.

    Raises:
        EncoderError: something is nowhere, or was trained with an encoder that is unknown.
    """
    inverter, corrector = _half(settings, pair.inverter), _half(settings, pair.corrector)
    config = _config(inverter)
    other = _config(corrector)
    for name in ("model_name_or_path", "embedder_model_name"):
        if config[name] != other[name]:
            raise EncoderError(
                f"'{pair.inverter}' and '{pair.corrector}' are no pair: {name} is "
                f"'{config[name]}' in one and '{other[name]}' in the other"
            )
    base = _folder(settings, config["model_name_or_path"], tokenizer_only=True)
    called = config["embedder_model_name"]
    if called in _EMBEDDERS:
        weights, pooling = _EMBEDDERS[called]
    elif called.startswith(_WHOLE):
        weights, pooling = called, "sentence-transformers"
    else:
        known = ", ".join([*_EMBEDDERS, f"{_WHOLE}..."])
        raise EncoderError(
            f"'{pair.inverter}' was trained with the encoder '{called}', which lvmdb does not run "
            f"(known: {known}): name another pair with --inverter and --corrector"
        )
    embedder = find_weights(
        weights, models_folder=settings.models, cache_folder=settings.home / "models"
    )
    return Weights(inverter, corrector, base, embedder.resolve(), pooling)


def _half(settings: Settings, name: str) -> Half:
    folder = _folder(settings, name)
    return Half(name, folder, revision(folder))


def _folder(settings: Settings, name: str, *, tokenizer_only: bool = False) -> Path:
    return find_weights(
        name,
        models_folder=settings.models,
        cache_folder=settings.home / "models",
        complete=has_tokenizer if tokenizer_only else has_weights,
        patterns=TOKENIZER_ONLY if tokenizer_only else WITH_WEIGHTS,
    ).absolute()


def _config(half: Half) -> dict[str, str]:
    """What a half says of itself.

    Raises:
        EncoderError: it is no half of vec2text's.
    """
    try:
        config = json.loads((half.folder / "config.json").read_text(encoding="utf-8"))
        names = ("model_name_or_path", "embedder_model_name")
        found = {name: config[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError):
        found = {}
    if not found or not all(isinstance(value, str) for value in found.values()):
        raise EncoderError(
            f"{half.folder} holds no inverter or corrector of vec2text's: its config.json does not "
            "name the T5 and the encoder that it was trained with"
        )
    return found
