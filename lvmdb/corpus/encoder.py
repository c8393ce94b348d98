"""Text into vectors: what every encoder is, and the fingerprint by which one is known.

Two models of one name can give unrelated vectors. A name is therefore never enough: the vectors
of `PROBE_SENTENCES` are stored with an encoder, and `check_fingerprint` compares. What gives them
again is that encoder, however it is loaded; what does not, is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.db.types import DIMENSION
from lvmdb.errors import EncoderError, UsageError

MATCH_COSINE = 0.999
"""Two encoders are the same if no probe sentence's vectors have a smaller cosine than this.

Above it is what rounds differently (other kernels, another machine, bf16: .9999); below it what
computes something else (int8: .99, another pooling, another model)."""

PROBE_SENTENCES: tuple[str, ...] = (
    "The cat slept on the windowsill all afternoon.",
    "Water boils at a lower temperature on a mountain, because the air pressure is lower there.",
    "Is a function that returns itself still a function?",
    "In 1869 the last spike joined two railways, 3,075 km of track, near Promontory, Utah.",
    "Der Zug nach München hatte wieder einmal über zwanzig Minuten Verspätung.",
    "SELECT title, count(*) FROM article GROUP BY title HAVING count(*) > 1;",
    "Not guilty.",
    "When the harbour froze for the third winter in a row, the fishermen, who had until then "
    "mended their nets and waited, began to haul their boats across the ice on sledges; some of "
    "them found open water after a day's walk, others came back with nothing but frostbite, and "
    "in the evenings, around the stove of the only inn that had stayed open, they argued about "
    "whether the old charts, drawn when the current still ran close to the shore, could be "
    "trusted at all, or whether the sea had simply moved away from them for good.",
)
"""Fixed for ever: stored fingerprints are vectors of these, in this order."""

LOCAL_KINDS = ("sentence-transformers", "vec2text")
ENDPOINT_KINDS = ("openai", "tei")
KINDS = (*LOCAL_KINDS, *ENDPOINT_KINDS)
PRECISIONS = ("fp32", "bf16", "int8")

VEC2TEXT = "vec2text/"
"""What the names of encoders begin with whose vectors are as vec2text's correctors read them."""

_SENTENCE_TRANSFORMERS = "sentence-transformers/"


@dataclass(frozen=True)
class EncoderSpec:
    """How an encoder is loaded.

    Attributes:
        name: what it is called.
        kind: one of `KINDS`.
        model: name or folder of its model, or what an endpoint calls it; None: as the encoder.
        endpoint: the address, for kinds of endpoints.
        precision: what it computes in, one of `PRECISIONS`; None for endpoints, which decide.

    Raises:
        UsageError: these do not go together.
    """

    name: str
    kind: str = "sentence-transformers"
    model: str | None = None
    endpoint: str | None = None
    precision: str | None = "fp32"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"--kind is one of {', '.join(KINDS)}, not '{self.kind}'")
        remote = self.kind in ENDPOINT_KINDS
        if remote != (self.endpoint is not None):
            raise UsageError("--endpoint goes with --kind openai or tei, and they with it")
        if remote != (self.precision is None):
            raise UsageError(
                "an endpoint decides its precision by itself: leave out --precision"
                if remote
                else f"--precision is one of {', '.join(PRECISIONS)}"
            )
        if not remote and self.precision not in PRECISIONS:
            raise UsageError(
                f"--precision is one of {', '.join(PRECISIONS)}, not '{self.precision}'"
            )
        # Both spaces come from one folder: a name that says which must not stand for the other.
        says = {VEC2TEXT: "vec2text", _SENTENCE_TRANSFORMERS: "sentence-transformers"}
        for prefix, kind in says.items():
            if self.name.startswith(prefix) and not remote and self.kind != kind:
                raise UsageError(
                    f"the name '{self.name}' says --kind {kind}: give vectors of kind "
                    f"{self.kind} another name"
                )

    @classmethod
    def of_name(cls, name: str) -> EncoderSpec:
        """What a name alone says: sentence-transformers, or vec2text for `vec2text/...`."""
        if name.startswith(VEC2TEXT):
            return cls(name, "vec2text")
        return cls(name)

    @property
    def weights(self) -> str:
        """Name or folder of what a local kind loads: both spaces of a T5 are in one folder."""
        if self.model is None and self.name.startswith(VEC2TEXT):
            return _SENTENCE_TRANSFORMERS + self.name.removeprefix(VEC2TEXT)
        return self.model or self.name


class Encoder(Protocol):
    """What turns texts into vectors, wherever it runs."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def spec(self) -> EncoderSpec:
        """How it was loaded."""

    @property
    def revision(self) -> str | None:
        """SHA-256 of its weights, or what their source calls this state of them; None: unknown."""

    @property
    def pooling(self) -> str | None:
        """How token vectors become one, e.g. `"mean"`; None: unknown."""

    @property
    def normalised(self) -> bool:
        """Whether the model itself ends by normalising. (`encode` gives unit norm either way.)"""

    @property
    def max_tokens(self) -> int | None:
        """What lies behind so many tokens of a text does not count; None: unknown."""

    @property
    def precision(self) -> str | None:
        """What it computes in, e.g. `"fp32"`; None: unknown."""

    def encode(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Vectors:
        """The vectors of `texts`: `(len(texts), 768)` float32 of unit norm, in their order.

        Args:
            texts: what to encode.
            progress: called after each batch with the number of texts in it.

        Raises:
            EncoderError: a text's vector has NaN or infinite numbers, or zero norm.
            EndpointError: the endpoint refuses, or is not there.
        """

    def probe_vectors(self) -> Vectors:
        """The fingerprint, `(len(PROBE_SENTENCES), 768)`, of the length that the model gives."""


def check_fingerprint(stored: np.ndarray, encoder: Encoder) -> float:
    """Compares an encoder with the fingerprint that was stored for its name.

    Args:
        stored: `(n, 768)`, the vectors of the probe sentences when the encoder was added.
        encoder: the encoder that is loaded now.

    Returns:
        The smallest cosine over the probe sentences.

    Raises:
        EncoderError: it is smaller than `MATCH_COSINE`, or the fingerprint has another shape.
    """
    worst, cosine = least_alike(encoder.name, stored, encoder.probe_vectors())
    if cosine < MATCH_COSINE:
        revision = f" (revision {encoder.revision[:12]})" if encoder.revision else ""
        raise EncoderError(
            f"the model loaded as '{encoder.name}'{revision} is not the"
            f" one whose vectors are stored: for probe sentence {worst + 1} the cosine is"
            f" {cosine:.4f}, and at least {MATCH_COSINE} is needed; use the weights that"
            " the vectors were made with, or encode into a dataset with an encoder of another name"
            f"{other_space(encoder.spec)}"
        )
    return cosine


def least_alike(name: str, stored: np.ndarray, probes: np.ndarray) -> tuple[int, float]:
    """The probe sentence whose vectors differ most, counted from 0, and their cosine.

    Args:
        name: of the encoder.
        stored: `(n, 768)`, its fingerprint.
        probes: `(n, 768)`, what is made of the probe sentences now.

    Raises:
        EncoderError: the fingerprint has another shape.
    """
    if stored.shape != probes.shape:
        raise EncoderError(
            f"encoder '{name}': its stored fingerprint has shape {stored.shape}, not"
            f" {probes.shape}: it was made by another version of lvmdb; add the encoder anew"
        )
    cosines = _row_cosines(stored, probes)
    worst = int(cosines.argmin())
    return worst, float(cosines[worst])


def _row_cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The cosine of each row `(n, 768)` to its fellow, `(n,)` float64; -1 where there is none."""
    old, new = left.astype(np.float64), right.astype(np.float64)
    scale = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines: np.ndarray = np.nan_to_num((old * new).sum(axis=1) / scale, nan=-1.0)
    return cosines


def other_space(spec: EncoderSpec) -> str:
    """What to say of a mismatch where a model has two spaces in common use; else nothing."""
    if "gtr-t5" not in spec.weights or spec.kind not in LOCAL_KINDS:
        return ""
    other = LOCAL_KINDS[1 - LOCAL_KINDS.index(spec.kind)]
    return f" (GTR-T5 has two spaces: these may be vectors of --kind {other})"


def typical_length(stored: np.ndarray) -> float:
    """The median length of an encoder's vectors before they were normalised, by its fingerprint.

    What was trained on such vectors as they are, vec2text's correctors say, is given a unit vector
    times this.

    Args:
        stored: `(n, 768)`, the fingerprint.
    """
    return float(np.median(np.linalg.norm(stored.astype(np.float64), axis=1)))


def check_usable(vectors: Vectors, texts: Sequence[str], name: str) -> None:
    """Refuse vectors `(n, 768)` that have no direction.

    Raises:
        EncoderError: one has NaN or infinite numbers, or zero norm; the message names its text.
    """
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = ~(np.isfinite(norms) & (norms > 0))
    if bad.any():
        index = int(bad.argmax())
        raise EncoderError(
            f"encoder '{name}' gave no usable vector (norm {norms[index]}) for text"
            f" {index + 1}, {texts[index][:80]!r}: shorten or remove the text"
        )


def unit(vectors: Vectors) -> Vectors:
    """Each row divided by its length, `(n, 768)` float32."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def check_dimension(dimension: int | None, name: str) -> None:
    """Refuse an encoder whose vectors do not fit the database.

    Raises:
        EncoderError: they do not have 768 numbers.
    """
    if dimension != DIMENSION:
        raise EncoderError(
            f"encoder '{name}' makes vectors of {dimension} numbers, and lvmdb keeps"
            f" {DIMENSION}: choose another, such as sentence-transformers/gtr-t5-base"
        )
