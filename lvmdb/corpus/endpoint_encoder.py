"""Encoders behind HTTP: OpenAI-compatible `/embeddings`, and text-embeddings-inference.

An endpoint is believed as little as a file of weights: it has a fingerprint, its dimension is
checked before anything is stored, and each answer has as many vectors as texts were sent.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.batches import BatchedEncoder
from lvmdb.corpus.encoder import PROBE_SENTENCES, EncoderSpec, check_dimension
from lvmdb.corpus.http import Endpoint, Patience
from lvmdb.errors import EncoderError, UsageError

AT_ONCE = 4
"""Requests under way: while one is computed, others travel."""

_MOST_TEXTS = 64
_BUDGET = 8_192
_NORMALISED = 1e-3
"""Vectors whose lengths are all so near to 1 were normalised where they come from."""

_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Served:
    """What an endpoint says of its model; None is what it does not say.

    Attributes:
        revision, pooling, max_tokens, precision: as `Encoder` has them.
        most_texts, most_tokens: that it takes in one request.
    """

    revision: str | None = None
    pooling: str | None = None
    max_tokens: int | None = None
    precision: str | None = None
    most_texts: int | None = None
    most_tokens: int | None = None


class EndpointEncoder(BatchedEncoder):
    """An encoder at an endpoint; use `EndpointEncoder.connect`.

    Attributes:
        spec: its kind, its address and what its model is called there.
        revision, pooling, max_tokens, precision: as far as the endpoint says.
        normalised: whether the probe sentences' vectors came with unit norm.
    """

    def __init__(self, spec: EncoderSpec, endpoint: Endpoint, served: Served) -> None:
        super().__init__(spec)
        self._endpoint = endpoint
        # Encoders are handed about like models, which nobody closes.
        weakref.finalize(self, endpoint.close)
        self.revision, self.pooling = served.revision, served.pooling
        self.max_tokens, self.precision = served.max_tokens, served.precision
        self.most = min(_MOST_TEXTS, served.most_texts or _MOST_TEXTS)
        self.budget = min(_BUDGET, served.most_tokens or _BUDGET)
        self._probes = self.raw(PROBE_SENTENCES)
        lengths = np.linalg.norm(self._probes, axis=1)
        self.normalised = bool(np.abs(lengths - 1).max() < _NORMALISED)

    @classmethod
    def connect(
        cls, spec: EncoderSpec, key: str | None = None, patience: Patience | None = None
    ) -> EndpointEncoder:
        """Asks the endpoint what it is, and for the vectors of the probe sentences.

        Args:
            spec: kind, address and model.
            key: sent as a bearer token.
            patience: time-outs and tries.

        Raises:
            EndpointError: it is not there, or refuses.
            EncoderError: it serves another model, or no vectors of 768 numbers.
            UsageError: its address holds what is not to be stored.
        """
        assert spec.endpoint is not None, "as the specification says"
        # The address goes into a row and into messages.
        if "@" in spec.endpoint or "?" in spec.endpoint:
            raise UsageError(
                "--endpoint takes an address without user, password and query: a key goes into "
                "LVMDB_ENCODER_KEY"
            )
        endpoint = Endpoint(
            spec.endpoint,
            f"encoder '{spec.name}'",
            key=key,
            key_name="LVMDB_ENCODER_KEY",
            patience=patience,
            connections=AT_ONCE,
        )
        try:
            served = _info(spec, endpoint.get("/info")) if spec.kind == "tei" else Served()
            return cls(spec, endpoint, served)
        except BaseException:
            endpoint.close()
            raise

    def probe_vectors(self) -> Vectors:
        """The fingerprint, as the endpoint gave it when it was asked first."""
        return self._probes

    def _count_tokens(self, texts: Sequence[str]) -> list[int]:
        # About four letters a token; what the model cuts off does not count.
        most = self.max_tokens or self.budget
        return [min(len(text.encode()) // 4 + 2, most) for text in texts]

    def _encode_all(self, batches: Sequence[Sequence[str]]) -> Iterator[Vectors]:
        left = iter(batches)
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="encode") as pool:
            waiting: deque[Future[Vectors]] = deque(
                pool.submit(self._encode_batch, batch) for batch in islice(left, AT_ONCE)
            )
            try:
                while waiting:
                    found = waiting.popleft().result()
                    waiting.extend(
                        pool.submit(self._encode_batch, batch) for batch in islice(left, 1)
                    )
                    yield found
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _encode_batch(self, texts: Sequence[str]) -> Vectors:
        if self.spec.kind == "tei":
            # Not normalised there: the lengths are what decoding needs.
            body = {"inputs": list(texts), "normalize": False, "truncate": True}
            return self._vectors(self._endpoint.post("/embed", body), len(texts))
        # text-embedding-3-small@768: models that can shorten their vectors are asked to.
        model, _, dimensions = self.spec.weights.partition("@")
        asked: dict[str, Any] = {
            "model": model,
            "input": list(texts),
            "encoding_format": "float",
        }
        if dimensions:
            asked["dimensions"] = int(dimensions) if dimensions.isdecimal() else dimensions
        return self._vectors(self._in_order(self._endpoint.post("/embeddings", asked)), len(texts))

    def _in_order(self, answer: Any) -> list[Any]:
        """The vectors of an OpenAI-compatible answer by the place of their text."""
        try:
            data = answer["data"]
            places = [row.get("index", i) for i, row in enumerate(data)]
            if sorted(places) != list(range(len(data))):
                raise self._wrong(f"numbered its {len(data)} vectors {places[:9]}")
            return [row["embedding"] for _, row in sorted(zip(places, data, strict=True), key=_by)]
        except (KeyError, TypeError, AttributeError):
            raise self._wrong("answered with something else than vectors") from None

    def _vectors(self, rows: Any, count: int) -> Vectors:
        """An answer as `(count, 768)`, whatever it held."""
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            raise self._wrong("answered with something else than vectors")
        if len(rows) != count:
            raise self._wrong(f"was sent {count} texts and gave {len(rows)} vectors")
        lengths = sorted({len(row) for row in rows})
        if len(lengths) > 1:
            raise self._wrong(f"gave vectors of {lengths[0]} and of {lengths[-1]} numbers")
        if lengths[0] > 768 and self.spec.kind == "openai" and "@" not in self.spec.weights:
            raise self._wrong(
                f"makes vectors of {lengths[0]} numbers, and lvmdb keeps 768: if its model can "
                f"shorten them, ask for --model {self.spec.weights}@768"
            )
        check_dimension(lengths[0], self.name)
        try:
            return np.array(rows, dtype=np.float32)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong("gave vectors that are not of numbers") from None

    def _wrong(self, told: str) -> EncoderError:
        return EncoderError(f"the encoder '{self.name}' at {self._endpoint.url} {told}")


def _by(numbered: tuple[int, Any]) -> int:
    return numbered[0]


def _info(spec: EncoderSpec, said: Any) -> Served:
    """What `/info` of text-embeddings-inference says.

    Raises:
        EncoderError: it serves another model, or one that makes no vectors.
    """
    where = f"the endpoint of encoder '{spec.name}'"
    if not isinstance(said, Mapping) or "model_id" not in said:
        raise EncoderError(f"{where} is not one of text-embeddings-inference: try --kind openai")
    kinds = said.get("model_type")
    kind = {str(k).lower(): v for k, v in kinds.items()} if isinstance(kinds, Mapping) else {}
    if "embedding" not in kind:
        raise EncoderError(f"{where} serves {said['model_id']}, which makes no sentence vectors")
    if spec.model is not None and spec.model != said["model_id"]:
        raise EncoderError(f"{where} serves {said['model_id']}, not {spec.model}")
    pooling = kind["embedding"].get("pooling") if isinstance(kind["embedding"], Mapping) else None
    return Served(
        revision=str(said.get("model_sha") or said["model_id"]),
        pooling=None if pooling is None else str(pooling),
        max_tokens=_number(said.get("max_input_length")),
        precision=_DTYPES.get(str(said.get("model_dtype"))),
        most_texts=_number(said.get("max_client_batch_size")),
        most_tokens=_number(said.get("max_batch_tokens")),
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
