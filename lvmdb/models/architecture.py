"""What an architecture is to the registry: its options, presets, origin, and how it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias, cast

from lvmdb.errors import ModelError, UnknownNameError
from lvmdb.models.config import TMD_WIDTH, ModelConfig, TrainedConfig
from lvmdb.models.options import from_options

if TYPE_CHECKING:
    from lvmdb.models.base import LatentModel
    from lvmdb.models.baselines.base import Baseline

    Built: TypeAlias = LatentModel | Baseline

Options: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Architecture:
    """One entry of the registry.

    Attributes:
        name: as on the command line.
        summary: one line.
        reference: where it comes from.
        config: class of its options.
        factory: `module:callable` that takes a config; imported when it is called.
        presets: options by scale: `toy` (seconds on two cores), `small`, `full` (the paper's size).
        trained: True: a module trained by gradients. False: a baseline with a `fit` of its own.
        objectives: what it can be trained for; `last` predicts what follows the whole context,
            `every` what follows each position of a sequence.
        published: `module:function` that reads published weights (`published`); None: there are
            none that it could start from.
    """

    name: str
    summary: str
    reference: str
    config: type[ModelConfig]
    factory: str
    presets: Mapping[str, Options]
    trained: bool = True
    objectives: tuple[str, ...] = ("last",)
    published: str | None = None

    def configure(self, options: Options | None = None, preset: str | None = None) -> ModelConfig:
        """A configuration from the defaults, then a preset, then single options.

        Raises:
            UnknownNameError: there is no such option or preset.
            ModelError: a value does not fit.
        """
        chosen: dict[str, object] = {}
        if preset is not None:
            if preset not in self.presets:
                raise UnknownNameError("preset", preset, self.presets)
            chosen.update(self.presets[preset])
        chosen.update(options or {})
        return from_options(self.config, chosen)

    def build(self, config: ModelConfig) -> Built:
        """A fresh `LatentModel` (if `trained`) or `Baseline`; weights come from torch's generator.

        Raises:
            ModelError: the configuration belongs to another architecture.
        """
        if type(config) is not self.config:
            raise ModelError(
                f"{self.name} is built from {self.config.__name__}, not {type(config).__name__}"
            )
        module, _, attribute = self.factory.partition(":")
        make = cast("Callable[[ModelConfig], Built]", getattr(import_module(module), attribute))
        if not isinstance(config, TrainedConfig):
            return make(config)
        from lvmdb.models.centred import Centred
        from lvmdb.models.lag_residual import LagResidual
        from lvmdb.models.multi_resolution import MultiResolution

        if config.tmd == "condition":
            model = cast(
                "LatentModel", make(replace(config, tmd="none", input_dim=config.output_dim))
            )
            model.condition(TMD_WIDTH)
        else:
            model = cast("LatentModel", make(config))
        if config.residual:
            model = LagResidual(model, config.context_len)
        if config.centre:
            model = Centred(model)
        if config.resolutions:
            model = MultiResolution(model, config.resolutions)
        return model
