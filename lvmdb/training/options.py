"""Options of training, beside those of the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from lvmdb.errors import ModelError, UnknownNameError
from lvmdb.models.architecture import Architecture
from lvmdb.models.config import TMD_WIDTH, ModelConfig, at_least, one_of
from lvmdb.models.options import from_options, to_options
from lvmdb.sequences.batch import OBJECTIVES
from lvmdb.training import curriculum, losses
from lvmdb.training.margins import MARGINS

FROM_SEQUENCES = (
    *("context_len", "input_dim", "output_dim"),
    *("tmd_fingerprint", "probe_fingerprint", "init_sha256"),
)
"""Options that nobody chooses: the sequence set, what the run reads of it, and files decide."""

PROBE = "probe"
"""The objective of answering questions; its batches are those of `last`."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained.

    Attributes:
        epochs: passes over the training windows.
        batch_size: windows (of `every`: sequences) in a step, all processes together.
        lr: the highest learning rate.
        warmup: share of all steps in which the rate rises to `lr`; from there it falls to
            `lr * final_lr` along a cosine.
        final_lr: the last rate as a share of `lr`.
        weight_decay: AdamW's.
        clip: the gradient's norm is cut to this; 0 cuts nothing.
        patience: epochs without a better validation loss after which training stops; 0 never.
        buffer_size: concepts held in the shuffle buffers, all shards together.
        objective: `last`: windows of the sequence set, of which a model predicts what follows;
            `every`: sequences of an article, of which it predicts what follows each position;
            `probe`: questions, of which it predicts the concepts that answer them.
        sequence_len: concepts that a sequence reads, at most; `every` only.
        temperature: of the loss InfoNCE.
        context_negatives: InfoNCE also tells the truth from the concepts of its own context.
        infonce_weight: of InfoNCE in a mixture: by how much it pulls harder than the other terms.
        curriculum: which windows an epoch trains on, by how coherent their context is: `none`: all;
            `bands` or `quantiles`: see `training.curriculum`.
        half: read the training vectors rounded to half precision, which halves what is sent.
        margin_soft, margin_hard: of `probe`: by how much, in cosine, a prediction must be nearer to
            its concept than to negatives that are like it, or are not.
        roundtrip_every: after every so many steps, in one some predictions go through text and
            back and are held against what comes; 0: never.
        init: a folder of published weights whose blocks the model starts with, for the
            architectures that have any.
        tmd_fingerprint, probe_fingerprint: of the TMD codes, and the probes, that the run reads, as
            they were when it was planned.
        init_sha256: of the weights in the folder `init`.
    """

    epochs: int = 10
    batch_size: int = 64
    lr: float = 1e-3
    warmup: float = 0.05
    final_lr: float = 0.01
    weight_decay: float = 0.01
    clip: float = 1.0
    patience: int = 3
    buffer_size: int = 4096
    objective: Literal["last", "every", "probe"] = "last"
    sequence_len: int = 64
    temperature: float = losses.TEMPERATURE
    context_negatives: bool = False
    infonce_weight: float = 1.0
    curriculum: Literal["none", "bands", "quantiles"] = "none"
    half: bool = False
    margin_soft: float = MARGINS.soft
    margin_hard: float = MARGINS.hard
    roundtrip_every: int = 0
    init: str | None = None
    tmd_fingerprint: str | None = None
    probe_fingerprint: str | None = None
    init_sha256: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "buffer_size"):
            at_least(name, getattr(self, name), 1)
        for name in ("patience", "roundtrip_every"):
            at_least(name, getattr(self, name), 0)
        at_least("sequence_len", self.sequence_len, 2)
        one_of("objective", self.objective, (*OBJECTIVES, PROBE))
        one_of("curriculum", self.curriculum, ("none", *curriculum.KINDS))
        for name in ("lr", "temperature"):
            if not 0 < getattr(self, name) < 1:
                raise ModelError(f"{name} must be above 0 and below 1, not {getattr(self, name)}")
        if self.curriculum != "none" and self.objective != "last":
            raise ModelError(
                "curriculum chooses windows by their context: train it with objective=last"
            )
        if self.curriculum != "none" and self.epochs < curriculum.PHASES:
            raise ModelError(
                f"curriculum has {curriculum.PHASES} phases and needs an epoch for each: "
                f"epochs must be at least {curriculum.PHASES}, not {self.epochs}"
            )
        if not 0 < self.infonce_weight < float("inf"):
            raise ModelError(f"infonce_weight must be above 0, not {self.infonce_weight}")
        for name in ("warmup", "final_lr"):
            if not 0 <= getattr(self, name) <= 1:
                raise ModelError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if self.half and self.objective == PROBE:
            raise ModelError("half is for windows and sequences: leave it out of objective=probe")
        for name in ("margin_soft", "margin_hard"):
            if not 0 <= getattr(self, name) <= 2:
                raise ModelError(f"{name} must be from 0 to 2, not {getattr(self, name)}")
        for name in ("weight_decay", "clip"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ModelError(f"{name} must be 0 or more, not {getattr(self, name)}")


def resolve(
    architecture: Architecture, given: Mapping[str, object], context_len: int
) -> tuple[ModelConfig, TrainingOptions | None]:
    """The configuration of model and training from options that name either's fields.

    Args:
        architecture: what is to run; a baseline has no training options.
        given: values by option name; `preset` names one of the architecture's presets.
        context_len: of the sequence set.

    Raises:
        UnknownNameError: an option is of neither; the message lists the known.
        ModelError: a value does not fit, or the architecture has not the objective.
    """
    options = dict(given)
    preset = options.pop("preset", None)
    model_fields = {f.name for f in fields(architecture.config)} - set(FROM_SEQUENCES)
    training_fields = {f.name for f in fields(TrainingOptions)} - set(FROM_SEQUENCES)
    if not architecture.trained:
        training_fields = set()
    for name in options:
        if name not in model_fields | training_fields:
            raise UnknownNameError(
                f"option of {architecture.name}", name, model_fields | training_fields | {"preset"}
            )
    width: dict[str, object] = {}
    if str(options.get("tmd", "none")).strip() != "none":
        width["input_dim"] = architecture.config().output_dim + TMD_WIDTH
    model = architecture.configure(
        {
            "context_len": context_len,
            **width,
            **{name: value for name, value in options.items() if name in model_fields},
        },
        None if preset is None else str(preset),
    )
    if not architecture.trained:
        return model, None
    chosen = {name: value for name, value in options.items() if name in training_fields}
    return model, _training(architecture, chosen)


def to_row(model: ModelConfig, training: TrainingOptions | None) -> dict[str, Any]:
    """Both as the one mapping that a run row holds."""
    return {**to_options(model), **(asdict(training) if training else {})}


def from_row(
    architecture: Architecture, row: Mapping[str, Any]
) -> tuple[ModelConfig, TrainingOptions | None]:
    """What `to_row` wrote.

    Raises:
        UnknownNameError, ModelError: the row is of another version of the architecture, or has an
            objective that the architecture has not.
    """
    model_fields = {f.name for f in fields(architecture.config)}
    training = {name: value for name, value in row.items() if name not in model_fields}
    model = architecture.configure({n: v for n, v in row.items() if n in model_fields})
    return model, _training(architecture, training) if architecture.trained else None


def _training(architecture: Architecture, chosen: Mapping[str, object]) -> TrainingOptions:
    """Options of training that the architecture can be trained with."""
    training = from_options(TrainingOptions, chosen)
    if training.init is not None and architecture.published is None:
        raise ModelError(
            f"init: {architecture.name} starts from no published weights: leave it out"
        )
    shape = "last" if training.objective == PROBE else training.objective
    if shape not in architecture.objectives:
        raise ModelError(
            f"{architecture.name} cannot be trained for objective '{training.objective}': "
            f"it has {', '.join(architecture.objectives)}"
        )
    return training
