"""`lvmdb runs export`: what training measured, for use elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from lvmdb.cli.app import App, Command, OutputFile, pass_app
from lvmdb.errors import UsageError


@click.command(cls=Command)
@click.argument("run_ids", type=int, nargs=-1, metavar="[RUN_ID]...")
@click.option("--all", "everything", is_flag=True, help="Every run.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["tensorboard", "csv", "json"]),
    required=True,
    help="tensorboard is a folder with a folder for each run, and needs --output.",
)
@click.option("--output", type=click.Path(path_type=Path), help="A folder; of csv and json a file.")
@click.option("--overwrite", is_flag=True, help="Replace the folder of an earlier export.")
@pass_app
def export(
    app: App,
    run_ids: tuple[int, ...],
    everything: bool,
    output_format: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Write what training measured, every number with its step and time.

    For TensorBoard a number is called split/name, as in val/loss, and what the run is, options
    included, is the text 'run'; pip install 'lvmdb[tensorboard]' brings what writes it. The folder
    appears when it is whole.

    \b
    Example:
      lvmdb runs export --all --format tensorboard --output runs
      lvmdb runs export 7 9 --format csv --output metrics.csv
    """
    from lvmdb.reports import run_export

    if output_format == "tensorboard":
        if output is None:
            raise UsageError("--format tensorboard is for --output FOLDER")
        chosen = run_export.chosen(app.database, run_ids, everything)
        count = run_export.export_events(app.database, chosen, output, overwrite=overwrite)
    else:
        if overwrite:
            raise UsageError("--overwrite is for --format tensorboard: a file is replaced anyway")
        if output is not None:
            output = OutputFile().convert(output, None, None)
        chosen = run_export.chosen(app.database, run_ids, everything)
        count = run_export.export_rows(app.database, chosen, output_format, output)
    if output is not None:
        click.echo(f"wrote {output}: {count} numbers of {len(chosen)} runs")
