"""A T5 for tests, laid out as GTR-T5 is: T5 encoder, mean pooling, dense layer, normalisation.

`build(folder)` takes about a second and no network; its vectors mean nothing. As with the
published weights, sentence-transformers' vectors of the folder and the mean of its encoder's
states are two different spaces.
"""

from __future__ import annotations

import json
import string
from itertools import product
from pathlib import Path
from typing import Any


def build(folder: Path) -> Path:
    """Writes the model into `folder` (made if need be) and returns it."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    pairs = ["".join(pair) for pair in product(string.ascii_lowercase, repeat=2)]
    pieces = [*string.printable.strip(), "ü", "▁", *pairs]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(piece, -1.0 if len(piece) == 2 else -2.0) for piece in dict.fromkeys(pieces)]
    tokenizer: Any = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    config = T5Config(
        vocab_size=len(vocabulary), d_model=768, d_kv=16, d_ff=32, num_layers=1, num_heads=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = T5EncoderModel(config)
        # Of the size that trained ones have: by default all states of a T5 this small look alike.
        torch.nn.init.normal_(model.shared.weight)
        dense = torch.nn.Linear(768, 768, bias=False)

    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(folder))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    ).save_pretrained(str(folder))
    modules = ["Transformer", "Pooling", "Dense", "Normalize"]
    paths = ["", *(f"{i}_{name}" for i, name in enumerate(modules) if i)]
    _write(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(zip(paths, modules, strict=True))
        ],
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False})
    _write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 768, "pooling_mode_mean_tokens": True},
    )
    _write(
        folder / "2_Dense" / "config.json",
        {
            "in_features": 768,
            "out_features": 768,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    weights = {"linear.weight": dense.weight.detach().contiguous()}
    save_file(weights, str(folder / "2_Dense" / "model.safetensors"))
    (folder / "3_Normalize").mkdir(exist_ok=True)
    return folder


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
