"""An inverter and a corrector for tests, built and trained where vec2text is: a tiny GTR's.

    python -I tests/tiny_vec2text.py FOLDER PROCESS

writes, as `LVMDB_MODELS` holds them, the encoder of `tiny_t5` under GTR's name, a tiny T5 under
that of T5-base, and the two halves under the names of those that belong to GTR; then it goes on as
vec2text's process, which loads what was written. (Both in one process: it imports for seconds.)

The halves learn the sentences of a tiny grammar. The inverter is stopped early, so that there is
something to correct; the corrector is shown sentences in which words were exchanged. Those of
`GTR_MEAN` are the same inverter and corrector, and only say that the mean-pooled space is theirs.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any

WORDS = (
    ("the", "a", "every"),
    ("red", "old", "small", "quiet"),
    ("fox", "ship", "king", "river"),
    ("sees", "likes", "hides"),
)
"""A sentence has one of each."""

SENTENCES = tuple(" ".join(words) for words in itertools.product(*WORDS))

GTR, T5 = "sentence-transformers--gtr-t5-base", "t5-base"
GTR_PAIR = (
    "ielabgroup--vec2text_gtr-base-st_inversion",
    "ielabgroup--vec2text_gtr-base-st_corrector",
)
GTR_MEAN = ("jxm--gtr__nq__32", "jxm--gtr__nq__32__correct")

INVERTER_STEPS, CORRECTOR_STEPS, BATCH, RATE = 30, 50, 48, 4e-3


def build(folder: Path, process: Any) -> None:
    """Writes all of it into `folder`."""
    process.vec2text_package()
    import torch
    from vec2text.models import CorrectorEncoderModel, InversionModel
    from vec2text.models.config import InversionConfig

    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoder = _module(Path(__file__).with_name("tiny_t5.py")).build(folder / GTR)
    base = _t5(folder / T5)
    config = InversionConfig(
        model_name_or_path=T5, embedder_model_name="gtr_base_st", embedder_model_api=None,
        embedder_torch_dtype="float32", embedder_fake_with_zeros=False, embedder_no_grad=True,
        use_frozen_embeddings_as_input=True, encoder_dropout_disabled=True,
        decoder_dropout_disabled=True, embeddings_from_layer_n=None, use_lora=False,
        embedder_gaussian_noise_level=0.0,
        max_seq_length=32, num_repeat_tokens=4, corrector_ignore_hypothesis_embedding=False,
    )  # fmt: skip
    with process.from_folders(str(base), str(encoder), "sentence-transformers"):
        inverter, corrector = InversionModel(config), CorrectorEncoderModel(config)
    # As large as what it is added to.
    labels = inverter.tokenizer(list(SENTENCES), return_tensors="pt", padding=True)
    tokens = inverter.embedder_tokenizer(list(SENTENCES), return_tensors="pt", padding=True)
    with torch.no_grad():
        vectors = inverter.call_embedding_model(tokens.input_ids, tokens.attention_mask)

    def inverter_loss(which: Any) -> Any:
        return inverter(
            None, None, labels=labels.input_ids[which], frozen_embeddings=vectors[which]
        ).loss

    def corrector_loss(which: Any) -> Any:
        guessed = _with_words_exchanged(which)
        return corrector(
            embedding=vectors[which],
            hypothesis_embedding=vectors[guessed],
            hypothesis_input_ids=labels.input_ids[guessed],
            hypothesis_attention_mask=labels.attention_mask[guessed],
            labels=labels.input_ids[which],
        ).loss

    _train(inverter, inverter_loss, INVERTER_STEPS)
    _train(corrector, corrector_loss, CORRECTOR_STEPS)
    for half, pair in zip((inverter, corrector), zip(GTR_PAIR, GTR_MEAN, strict=True), strict=True):
        for name, called in zip(pair, ("gtr_base_st", "gtr_base"), strict=True):
            half.save_pretrained(folder / name)
            told = json.loads((folder / name / "config.json").read_text())
            told["embedder_model_name"] = called
            (folder / name / "config.json").write_text(json.dumps(told))


def _train(model: Any, loss_of: Any, steps: int) -> None:
    import torch

    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=RATE, fused=True
    )
    model.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * (1 - step / steps)
        loss = loss_of(torch.randint(len(SENTENCES), (BATCH,)))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()


def _with_words_exchanged(which: Any) -> Any:
    """Other sentences, which differ in up to three of the places."""
    import torch

    sizes = torch.tensor([len(words) for words in WORDS])
    strides = torch.tensor([int(sizes[i + 1 :].prod()) for i in range(len(WORDS))])
    places = which[:, None] // strides % sizes
    other = (places + torch.randint(1, 8, places.shape)) % sizes
    chosen = torch.rand(places.shape) < 0.4
    return (torch.where(chosen, other, places) * strides).sum(dim=1)


def _t5(folder: Path) -> Path:
    """A T5 whose tokens are the grammar's words; its weights are not written, nor wanted."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config

    words = dict.fromkeys(word for choice in WORDS for words in choice for word in words.split())
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer: Any = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=32,
    ).save_pretrained(str(folder))  # fmt: skip
    config = T5Config(
        vocab_size=len(vocabulary), d_model=64, d_kv=16, d_ff=128, num_layers=1, num_heads=4,
        dropout_rate=0.0, decoder_start_token_id=0,
    )  # fmt: skip
    config.architectures = ["T5ForConditionalGeneration"]
    config.save_pretrained(str(folder))
    return folder


def _module(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    running = _module(Path(sys.argv[2]))
    build(Path(sys.argv[1]), running)
    running.main()
