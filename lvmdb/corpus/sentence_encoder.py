"""Encoders that sentence-transformers runs: the model, its pooling, what it ends with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.encoder import EncoderSpec, check_dimension
from lvmdb.corpus.local_encoder import LocalEncoder, loading
from lvmdb.corpus.precision import dtype_of
from lvmdb.corpus.quiet import quiet
from lvmdb.corpus.weights import WEIGHTS, is_complete, revision
from lvmdb.errors import EncoderError, MissingDependencyError


class SentenceEncoder(LocalEncoder):
    """A loaded sentence encoder; use `SentenceEncoder.load`.

    Attributes, beside those of `LocalEncoder`:
        pooling: how token vectors become one, e.g. `"mean"`.
        normalised: whether the model itself ends by normalising. (`encode` gives unit norm
            either way.)
        max_tokens: what lies behind this many tokens of a text does not count.
    """

    def __init__(self, model: Any, spec: EncoderSpec, found_revision: str) -> None:
        super().__init__(model, spec, found_revision)
        pooling = [m for m in model if type(m).__name__ == "Pooling"]
        self.pooling = str(getattr(pooling[0], "pooling_mode", "mean")) if pooling else "none"
        self.normalised = any(type(m).__name__ == "Normalize" for m in model)
        self.max_tokens = int(model.max_seq_length or 0)

    @classmethod
    def load(cls, folder: Path, spec: EncoderSpec, device: str = "cpu") -> SentenceEncoder:
        """Loads the model in `folder`, without touching the network.

        Args:
            folder: as `find_weights` gives it.
            spec: the encoder's name and precision.
            device: a torch device.

        Raises:
            EncoderError: the folder does not hold a model that loads, its vectors do not have
                768 numbers, or its precision cannot be had here.
            MissingDependencyError: sentence-transformers is not installed.
        """
        try:
            with quiet():
                from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingDependencyError(
                "sentence-transformers", "encoders", "encoding text"
            ) from None
        if not is_complete(folder):
            raise EncoderError(
                f"{folder} does not hold a sentence-transformers model: modules.json or"
                f" {WEIGHTS} is missing"
            )
        with loading(folder, spec):
            model = SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                model_kwargs={"dtype": dtype_of(spec.precision)},
            )
        check_dimension(model.get_embedding_dimension(), spec.name)
        model.eval()
        loaded = cls(model, spec, revision(folder))
        loaded._lower_precision()
        return loaded

    def _count_tokens(self, texts: Sequence[str]) -> list[int]:
        with quiet():
            found = self._model.tokenizer(
                list(texts),
                truncation=True,
                max_length=self.max_tokens or None,
                return_attention_mask=False,
            )
        return [len(ids) for ids in found["input_ids"]]

    def _encode_batch(self, texts: Sequence[str]) -> Vectors:
        with quiet():
            vectors: Vectors = self._model.encode(
                list(texts),
                batch_size=len(texts),
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return vectors
