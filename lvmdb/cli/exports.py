"""`lvmdb export`: files for use elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from lvmdb.cli.app import App, Group, OutputFile, dataset_option, pass_app


@click.group(cls=Group)
def exports() -> None:
    """Write files for use elsewhere.

    \b
    Example:
      lvmdb export concepts wiki.npz --dataset wiki
    """


@exports.command()
@click.argument("file", type=OutputFile())
@dataset_option
@pass_app
def concepts(app: App, file: Path, dataset: str | None) -> None:
    """Write cpe_ids, concept_texts, vectors and tmd_codes in corpus order (NPZ).

    \b
    Example:
      lvmdb export concepts wiki.npz --dataset wiki
    """
    from lvmdb.sequences.export import export_concepts

    count = export_concepts(app.database, app.dataset(dataset), file)
    click.echo(f"wrote {file}: {count} concepts")
