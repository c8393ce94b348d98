"""Configurations: validation, coercion from texts, and the way through JSON."""

from __future__ import annotations

import json

import pytest

from lvmdb.errors import ModelError, UnknownNameError
from lvmdb.models import registry
from lvmdb.models.baselines.config import RidgeConfig
from lvmdb.models.configs.hyena import HyenaConfig
from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.configs.mamba2 import Mamba2Config
from lvmdb.models.configs.s4 import S4Config
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "layers must be at least 1, not 0"),
        ({"d_state": 0}, "d_state must be at least 2, not 0"),
        ({"d_state": 5}, r"d_state must be even \(conjugate pairs\), not 5"),
        ({"variant": "s5"}, "variant must be one of s4d, dplr, not 's5'"),
        ({"start": "random"}, "start must be one of legs, lin, inv, not 'random'"),
        ({"variant": "dplr", "start": "lin"}, "variant dplr has the start legs, not 'lin'"),
        ({"dt_min": 0}, r"dt_min must be above 0 and at most dt_max \(0.1\), not 0"),
        ({"dt_min": 0.2}, r"dt_min must be above 0 and at most dt_max \(0.1\), not 0.2"),
        ({"dt_max": "nan"}, "dt_min must be above 0 and at most dt_max"),
    ],
)
def test_s4_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        from_options(S4Config, options)


def test_hyena_refuses_filters_shorter_than_a_context() -> None:
    with pytest.raises(ModelError, match="filter_len must be at least 5, not 4"):
        HyenaConfig(filter_len=4)
    with pytest.raises(ModelError, match="order must be at least 1, not 0"):
        HyenaConfig(order=0)


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
