"""Options of model and training, from a command line to a run's row and back."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from lvmdb.errors import ModelError, UnknownNameError
from lvmdb.models import registry
from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.training import options
from lvmdb.training.catalogue import options_of, overview
from lvmdb.training.options import TrainingOptions

LSTM = registry.get("lstm")


def test_defaults_are_the_documented_ones() -> None:
    model, training = options.resolve(LSTM, {}, context_len=5)
    assert model == LSTMConfig(hidden=512, layers=2, residual=True)
    assert training == TrainingOptions()
    assert (training.epochs, training.batch_size, training.lr) == (10, 64, 1e-3)


def test_one_mapping_is_parted_between_model_and_training() -> None:
    given = {"hidden": "256", "epochs": "3", "residual": "false", "lr": "1e-4", "dropout": 0.1}
    model, training = options.resolve(LSTM, given, context_len=7)
    assert model == LSTMConfig(hidden=256, residual=False, dropout=0.1, context_len=7)
    assert training == TrainingOptions(epochs=3, lr=1e-4)


def test_a_preset_is_a_start() -> None:
    model, _ = options.resolve(LSTM, {"preset": "full", "layers": "3"}, context_len=5)
    assert model == LSTMConfig(hidden=512, layers=3, stack_residual=True)
    with pytest.raises(UnknownNameError, match=r"unknown preset 'tiny'.*full, small, toy"):
        options.resolve(LSTM, {"preset": "tiny"}, context_len=5)


@pytest.mark.parametrize(
    "name",
    [
        "hiden",
        "context_len",
        "input_dim",
        "output_dim",
        "d_model",
        "tmd_fingerprint",
        "init_sha256",
    ],
)
def test_an_unknown_option_lists_the_known(name: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        options.resolve(LSTM, {name: 1}, context_len=5)
    message = str(caught.value)
    assert f"unknown option of lstm '{name}'" in message
    for known in ("hidden", "layers", "residual", "epochs", "lr", "warmup", "clip", "preset"):
        assert known in message.split("known: ")[1]
    assert "context_len" not in message.split("known: ")[1]


def test_a_baseline_has_no_options_of_training() -> None:
    ridge = registry.get("ridge")
    model, training = options.resolve(ridge, {"strengths": "1,2"}, context_len=5)
    assert training is None
    assert options.to_row(model, training)["strengths"] == [1.0, 2.0]
    with pytest.raises(UnknownNameError, match="unknown option of ridge 'epochs'"):
        options.resolve(ridge, {"epochs": "3"}, context_len=5)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("epochs", 0, "epochs must be at least 1"),
        ("epochs", "2.5", "epochs must be a whole number"),
        ("batch_size", 0, "batch_size must be at least 1"),
        ("buffer_size", 0, "buffer_size must be at least 1"),
        ("patience", -1, "patience must be at least 0"),
        ("sequence_len", 1, "sequence_len must be at least 2, not 1"),
        ("objective", "each", "objective must be one of last, every, probe, not 'each'"),
        ("objective", "", "objective must be one of last, every, probe, not ''"),
        ("lr", 0, "lr must be above 0 and below 1"),
        ("lr", 1, "lr must be above 0 and below 1"),
        ("lr", "nan", "lr must be above 0 and below 1"),
        ("lr", "fast", "lr must be a number"),
        ("warmup", 1.1, "warmup must be from 0 to 1"),
        ("final_lr", -0.1, "final_lr must be from 0 to 1"),
        ("weight_decay", "inf", "weight_decay must be 0 or more"),
        ("clip", "nan", "clip must be 0 or more"),
        ("hidden", 0, "hidden must be at least 1"),
        ("dropout", 1, "dropout must be at least 0 and below 1"),
        ("residual", "perhaps", "residual must be true or false"),
        ("roundtrip_every", -1, "roundtrip_every must be at least 0"),
        ("margin_hard", 3, "margin_hard must be from 0 to 2"),
        ("tmd", "all", "tmd must be one of none, input, condition, not 'all'"),
        ("resolutions", "768", "resolutions must fall, from below 768 to 1 at least"),
        ("resolutions", "192,384", "as in 384,192, not 192,384"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(name: str, value: object, why: str) -> None:
    with pytest.raises(ModelError, match=why):
        options.resolve(LSTM, {name: value}, context_len=5)


@pytest.mark.parametrize("name", registry.names(trained=True))
def test_no_option_is_of_both_model_and_training(name: str) -> None:
    """They share one mapping on a command line and on a row."""
    of_model = {field.name for field in fields(registry.get(name).config)}
    assert not of_model & {field.name for field in fields(TrainingOptions)}


@pytest.mark.parametrize("name", registry.names())
def test_a_row_gives_back_what_it_was_made_from(name: str) -> None:
    architecture = registry.get(name)
    resolved = options.resolve(architecture, {}, context_len=3)
    row = json.loads(json.dumps(options.to_row(*resolved)))
    assert options.from_row(architecture, row) == resolved
    assert row["context_len"] == 3


@pytest.mark.parametrize("tmd", ["input", "condition"])
def test_codes_make_contexts_wider(tmd: str) -> None:
    mamba2 = registry.get("mamba2")
    model, training = options.resolve(mamba2, {"tmd": tmd, "resolutions": "384,192"}, context_len=5)
    assert (model.input_dim, model.output_dim) == (784, 768)
    assert model.reads_tmd
    row = json.loads(json.dumps(options.to_row(model, training)))
    assert row["resolutions"] == [384, 192]
    assert options.from_row(mamba2, row) == (model, training)
    plain, _ = options.resolve(mamba2, {"tmd": "none"}, context_len=5)
    assert plain.input_dim == 768


def test_questions_are_for_whatever_predicts_after_a_context() -> None:
    _, training = options.resolve(LSTM, {"objective": "probe", "margin_soft": "0.3"}, context_len=5)
    assert training == TrainingOptions(objective="probe", margin_soft=0.3, margin_hard=0.4)
    with pytest.raises(ModelError, match="cannot be trained for objective 'probe'"):
        options.resolve(replace(LSTM, objectives=("every",)), {"objective": "probe"}, context_len=5)


def test_a_row_of_another_version_is_refused() -> None:
    row = options.to_row(*options.resolve(LSTM, {}, context_len=5))
    with pytest.raises(UnknownNameError, match="unknown option 'heads'"):
        options.from_row(LSTM, {**row, "heads": 4})


def test_an_objective_that_an_architecture_has_not_is_refused() -> None:
    given: dict[str, object] = {"objective": "every", "sequence_len": "32"}
    resolved = options.resolve(LSTM, given, context_len=5)
    assert resolved[1] == TrainingOptions(objective="every", sequence_len=32)
    row = json.loads(json.dumps(options.to_row(*resolved)))
    assert options.from_row(LSTM, row) == resolved

    without = replace(LSTM, objectives=("last",))
    assert options.resolve(without, {}, context_len=5)[1] == TrainingOptions()
    why = "lstm cannot be trained for objective 'every': it has last"
    with pytest.raises(ModelError, match=why):
        options.resolve(without, given, context_len=5)
    with pytest.raises(ModelError, match=why):
        options.from_row(without, row)


def test_a_row_from_before_there_were_objectives_is_of_the_first() -> None:
    row = options.to_row(*options.resolve(LSTM, {}, context_len=5))
    del row["objective"], row["sequence_len"]
    _, training = options.from_row(LSTM, row)
    assert training is not None
    assert training.objective == "last"


def test_the_catalogue_shows_each_objective() -> None:
    rows = {row["option"]: row for row in options_of(LSTM)}
    assert (rows["objective"]["default"], rows["objective"]["of"]) == ("last", "training")
    assert rows["sequence_len"]["default"] == 64
    assert (rows["tmd"]["of"], rows["resolutions"]["of"]) == ("model", "model")
    assert rows["roundtrip_every"]["of"] == "training"
    starting = {row["option"] for row in options_of(registry.get("mamba2"))} - rows.keys()
    assert "init" in starting
    assert not set(options.FROM_SEQUENCES) & rows.keys()
    shown = {row["name"]: row["objectives"] for row in overview()}
    assert shown["lstm"] == shown["mamba2"] == "last, every"
    assert shown["ridge"] == "last"
