"""A sentence encoder for tests: a real sentence-transformers model with tiny random weights.

`build(folder)` takes about a second and no network. Its vectors have 768 numbers and mean nothing,
but different texts get different ones, and texts that share words are nearer to each other.
"""

from __future__ import annotations

import json
import string
import zlib
from itertools import product
from pathlib import Path
from typing import Any

_WORDS = (
    "the of and to in is was that for it as with on by are from at this which or an be not has "
    "have its can were their one two he she they but also other when where who what if then all "
    "some more most such into about between after before under over there these those been may"
)


def build(folder: Path, seed: int = 0) -> Path:
    """Writes the model into `folder` (made if need be) and returns it.

    Args:
        folder: where to.
        seed: another seed gives a model of the same shape whose vectors are unrelated.
    """
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = sorted({*string.printable.strip(), *"äöüßéèàçñ’“”–—…"})  # noqa: RUF001
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    # Pairs of letters: of single ones all long texts have the same share, and would look alike.
    pairs = ["".join(pair) for pair in product(string.ascii_lowercase, repeat=2)]
    pieces = [*letters, *_WORDS.split(), *pairs, *(f"##{part}" for part in (*letters, *pairs))]
    vocabulary = {token: i for i, token in enumerate([*tokens, *dict.fromkeys(pieces)])}

    tokenizer: Any = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))

    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=768,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(f"tiny encoder {seed}".encode()))
        model = BertModel(config, add_pooling_layer=False)
        torch.nn.init.normal_(model.embeddings.word_embeddings.weight)

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
    config.architectures = ["BertModel"]
    config.to_json_file(str(folder / "config.json"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=256,
    ).save_pretrained(str(folder))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    _write(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": False})
    _write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 768, "pooling_mode_mean_tokens": True},
    )
    (folder / "2_Normalize").mkdir(exist_ok=True)
    return folder


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
