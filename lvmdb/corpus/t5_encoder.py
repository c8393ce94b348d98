"""GTR-T5's other space: the mean of the T5 encoder's states, as vec2text's correctors read it.

sentence-transformers puts a dense layer and a normalisation behind that mean; vec2text (Morris et
al. 2023, "Text embeddings reveal (almost) as much as text") has neither. Of one folder, the two
spaces have nothing in common: each is an encoder with a name of its own.

The database keeps unit vectors, whatever a model gives: models here predict directions, their
metric is the cosine, and no length of a truth could be told from a predicted direction. What a
corrector needs besides is a length: `encoder.typical_length`, of the fingerprint, which keeps the
probe sentences' vectors as they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.encoder import EncoderSpec, check_dimension
from lvmdb.corpus.local_encoder import LocalEncoder, loading
from lvmdb.corpus.precision import dtype_of
from lvmdb.corpus.quiet import quiet
from lvmdb.corpus.weights import revision
from lvmdb.errors import EncoderError, MissingDependencyError

MAX_TOKENS = 128
"""Of a text, as vec2text embeds what it is trained on."""


class T5Encoder(LocalEncoder):
    """The encoder half of a T5, mean-pooled and not normalised; use `T5Encoder.load`.

    Its revision is that of a `SentenceEncoder` of the same folder: both spaces come from the same
    weights.

    Attributes, beside those of `LocalEncoder`:
        pooling: `"mean"`.
        normalised: False.
        max_tokens: what lies behind this many tokens of a text does not count.
    """

    pooling = "mean"
    normalised = False
    max_tokens = MAX_TOKENS

    def __init__(self, model: Any, tokenizer: Any, spec: EncoderSpec, found_revision: str) -> None:
        super().__init__(model, spec, found_revision)
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path, spec: EncoderSpec, device: str = "cpu") -> T5Encoder:
        """Loads the T5 in `folder`, without touching the network.

        Args:
            folder: as `find_weights` gives it.
            spec: the encoder's name and precision.
            device: a torch device.

        Raises:
            EncoderError: the folder does not hold a T5 that loads, its states do not have 768
                numbers, or its precision cannot be had here.
            MissingDependencyError: transformers is not installed.
        """
        try:
            with quiet():
                from transformers import AutoConfig, AutoTokenizer, T5EncoderModel
        except ImportError:
            raise MissingDependencyError("transformers", "encoders", "encoding text") from None
        with loading(folder, spec):
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
            if config.model_type != "t5":
                raise EncoderError(f"it is a {config.model_type}, and no T5")
            model, told = T5EncoderModel.from_pretrained(
                str(folder),
                local_files_only=True,
                dtype=dtype_of(spec.precision),
                output_loading_info=True,
            )
            # Else they would be random, and only a warning would say so.
            if told["missing_keys"]:
                raise EncoderError(f"{len(told['missing_keys'])} of its weights are missing")
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        check_dimension(config.d_model, spec.name)
        model.eval().to(device)
        loaded = cls(model, tokenizer, spec, revision(folder))
        loaded._lower_precision()
        return loaded

    def _count_tokens(self, texts: Sequence[str]) -> list[int]:
        found = self._tokenizer(list(texts), truncation=True, max_length=self.max_tokens)
        return [len(ids) for ids in found["input_ids"]]

    def _encode_batch(self, texts: Sequence[str]) -> Vectors:
        import torch

        inputs = self._tokenizer(
            list(texts),
            truncation=True,
            max_length=self.max_tokens,
            padding=True,
            return_tensors="pt",
        ).to(self.device)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state.float()  # (texts, tokens, 768)
            counts = inputs["attention_mask"].unsqueeze(-1).float()  # (texts, tokens, 1)
            pooled = (states * counts).sum(dim=1) / counts.sum(dim=1)  # (texts, 768)
        vectors: Vectors = pooled.cpu().numpy()
        return vectors
