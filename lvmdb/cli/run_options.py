"""Options that several commands which plan runs take."""

from __future__ import annotations

import click

from lvmdb.errors import UsageError


def _given(
    _: click.Context, parameter: click.Parameter, items: tuple[str, ...]
) -> dict[str, object]:
    """`key=value` texts as a mapping."""
    options: dict[str, object] = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name:
            raise UsageError(f"--set takes key=value, not '{item}'")
        if name in options:
            raise UsageError(f"--set {name} is given twice")
        options[name] = value
    return options


set_option = click.option(
    "--set",
    "options",
    multiple=True,
    callback=_given,
    metavar="KEY=VALUE",
    help="An option of the architecture or of training, or preset=toy|small|full; repeatable.",
)

loss_option = click.option(
    "--loss",
    metavar="L",
    help="mse, cosine or infonce, or a mixture such as mse+infonce; diffusion for lcm's towers.  "
    "[default: mse, or diffusion]",
)
