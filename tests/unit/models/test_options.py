"""Configurations: validation, coercion from texts, and the way through JSON."""

from __future__ import annotations

import json

import pytest

from lvmdb.errors import ModelError, UnknownNameError
from lvmdb.models import registry
from lvmdb.models.baselines.config import RidgeConfig
from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.configs.mamba2 import Mamba2Config
from lvmdb.models.options import from_options, to_options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1, not 0"),
        ({"layers": -1}, "layers must be at least 1, not -1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"context_len": 0}, "context_len must be at least 1, not 0"),
        ({"output_dim": 800}, r"output_dim must be at most input_dim \(768\), not 800"),
        ({"hidden": "many"}, "hidden must be a whole number, not 'many'"),
        ({"hidden": 2.5}, "hidden must be a whole number, not '2.5'"),
        ({"dropout": "nan"}, "dropout must be at least 0"),
        ({"hidden": True}, "hidden must be a whole number, not 'True'"),
        ({"residual": "maybe"}, "residual must be true or false, not 'maybe'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        from_options(LSTMConfig, options)


def test_mamba2_refuses_what_does_not_divide_and_unknown_kernels() -> None:
    with pytest.raises(ModelError, match=r"headdim must divide expand \* d_model \(512\)"):
        Mamba2Config(headdim=48)
    with pytest.raises(ModelError, match="kernel must be one of auto, torch, mamba_ssm"):
        from_options(Mamba2Config, {"kernel": "cuda"})


def test_texts_become_the_types_of_their_fields() -> None:
    options = {"hidden": "256", "residual": "false", "dropout": "0.1", "layers": 3.0}
    config = from_options(LSTMConfig, options)
    assert config == LSTMConfig(hidden=256, residual=False, dropout=0.1, layers=3)
    assert isinstance(config.layers, int)
    assert from_options(RidgeConfig, {"strengths": "0.1, 1,10"}).strengths == (0.1, 1.0, 10.0)
    assert from_options(RidgeConfig, {"strengths": 2}).strengths == (2.0,)


@pytest.mark.parametrize("strengths", ["0", "-1", "nan", "inf", []])
def test_ridge_wants_strengths_above_zero(strengths: object) -> None:
    with pytest.raises(ModelError, match="strengths must be"):
        from_options(RidgeConfig, {"strengths": strengths})


def test_an_unknown_option_is_refused_with_the_nearest_and_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown option 'hiden'; did you mean 'hidden'\?"):
        from_options(LSTMConfig, {"hiden": 3})
    with pytest.raises(UnknownNameError, match="known: centre, context_len, dropout, hidden"):
        from_options(LSTMConfig, {"zzz": 3})


@pytest.mark.parametrize("name", registry.names())
def test_every_configuration_survives_json(name: str) -> None:
    architecture = registry.get(name)
    for preset in (None, "toy", "small", "full"):
        config = architecture.configure({"context_len": 7}, preset)
        stored = json.loads(json.dumps(to_options(config)))
        assert architecture.configure(stored) == config
