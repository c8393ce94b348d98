"""`lvmdb architectures`: what can be trained."""

from __future__ import annotations

import click

from lvmdb.cli.app import Command, format_option, show


@click.command(cls=Command)
@click.argument("name", required=False)
@format_option
def architectures(name: str | None, output_format: str) -> None:
    """What can be trained; with NAME, its options with their defaults.

    An ensemble is made of runs, by 'lvmdb ensemble create'.

    \b
    Example:
      lvmdb architectures
      lvmdb architectures mamba2
    """
    from lvmdb.evaluation.combining import SUMMARY, options_of_ensembles
    from lvmdb.models import registry
    from lvmdb.training.catalogue import options_of, overview
    from lvmdb.training.plan import ENSEMBLE

    if name is None:
        rows = overview()
        ensemble = {"name": ENSEMBLE, "kind": "ensemble", "summary": SUMMARY}
        rows.append({column: ensemble.get(column) for column in rows[0]})
        show(list(rows[0]), rows, output_format)
        return
    if name == ENSEMBLE:
        rows = options_of_ensembles()
        show(list(rows[0]), rows, output_format, f"{name}: {SUMMARY}")
        return
    architecture = registry.get(name)
    title = f"{architecture.name}: {architecture.summary} ({architecture.reference})"
    rows = options_of(architecture)
    show(["option", "default", *architecture.presets, "of"], rows, output_format, title)
