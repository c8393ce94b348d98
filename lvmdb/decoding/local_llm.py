"""A language model from a GGUF file, in this process: for trying what asks one without a server.

    with LocalLlm("SmolLM2-135M-Instruct.Q4_1.gguf") as llm:
        llm.ask(Question("Be brief.", "What is a concept?"))

The file is read by transformers, which unpacks its weights to float32. That is slower than a
server made for it and takes several times the memory: small models are what it is for. Answers are
the most likely ones, so that the same question gets the same answer.
"""

from __future__ import annotations

import os
import threading
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lvmdb.corpus.llm import Question
from lvmdb.errors import EndpointError, MissingDependencyError, ModelError


class LocalLlm:
    """The model of a file; one question at a time.

    Args:
        path: of the file.

    Attributes:
        model: the file's name.

    Raises:
        MissingDependencyError: transformers, gguf or accelerate is not installed.
        ModelError: there is no such file, or it is none.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self.model = self._path.name
        for package in ("transformers", "gguf", "accelerate"):
            if find_spec(package) is None:
                raise MissingDependencyError(package, "gguf", "a language model from a GGUF file")
        if not self._path.is_file():
            raise ModelError(f"there is no language model at {self._path}")
        self._lock = threading.Lock()
        self._tokenizer, self._model = self._loaded()

    @classmethod
    def from_url(cls, url: str) -> LocalLlm:
        """The model that an address names: `file:///folder/model.gguf`."""
        return cls(unquote(urlsplit(url).path))

    def __enter__(self) -> LocalLlm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the weights go."""
        self._tokenizer = self._model = None

    def ask(self, question: Question) -> str:
        """The model's answer as text; a schema is not looked at.

        Raises:
            EndpointError: it is empty or was cut off, or the question is longer than it can read.
        """
        import torch

        messages = [{"role": "system", "content": question.system}]
        for user, assistant in question.examples:
            messages.append({"role": "user", "content": user})
            messages.append({"role": "assistant", "content": assistant})
        messages.append({"role": "user", "content": question.user})
        with self._lock, torch.inference_mode():
            if self._model is None:
                raise EndpointError(f"the language model {self.model} was closed")
            asked = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            length = asked["input_ids"].shape[1]
            most = self._model.config.max_position_embeddings
            if length + question.most_tokens > most:
                raise EndpointError(
                    f"the question has {length} tokens and its answer up to "
                    f"{question.most_tokens}: {self.model} reads {most}"
                )
            said = self._model.generate(
                **asked,
                max_new_tokens=question.most_tokens,
                do_sample=False,
                pad_token_id=self._tokenizer.eos_token_id,
            )[0, length:]
            text: str = self._tokenizer.decode(said, skip_special_tokens=True).strip()
            ended = int(said[-1]) in self._ends()
        if not ended:
            raise EndpointError(f"the model's answer was cut off: {text[:80]!r}")
        if not text:
            raise EndpointError("the model's answer is empty")
        return text

    def _ends(self) -> set[int]:
        """The tokens that end an answer."""
        end = self._model.generation_config.eos_token_id
        given = end if isinstance(end, list) else [end]
        return {each for each in (*given, self._tokenizer.eos_token_id) if each is not None}

    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from lvmdb.corpus.quiet import quiet

        where = {"gguf_file": self._path.name, "local_files_only": True}
        try:
            # The library draws a bar that nothing else turns off.
            with quiet(), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
                tokenizer = AutoTokenizer.from_pretrained(self._path.parent, **where)
                model = AutoModelForCausalLM.from_pretrained(self._path.parent, **where)
        # The library has errors of every kind for what is no such file.
        except Exception as error:
            said = " ".join(str(error).split())[:160]
            raise ModelError(f"{self._path} is no model that can be loaded: {said}") from None
        model.eval()
        model.generation_config.temperature = model.generation_config.top_p = None
        return tokenizer, model
