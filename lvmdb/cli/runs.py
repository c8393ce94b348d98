"""`lvmdb runs`: what is to be trained, is being trained, was trained."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Group, format_option, pass_app, show
from lvmdb.cli.forks import fork, stages
from lvmdb.cli.run_export import export
from lvmdb.cli.run_options import loss_option, set_option
from lvmdb.errors import RunError, UnknownNameError


@click.group(cls=Group)
def runs() -> None:
    """Runs: one configuration, on one sequence set, with one seed.

    \b
    Example:
      lvmdb train --run-id $(lvmdb runs create --architecture lstm --sequences wiki5)
    """


@runs.command()
@click.option("--architecture", required=True, metavar="A", help="See 'lvmdb architectures'.")
@click.option("--sequences", required=True, metavar="S", help="A frozen sequence set.")
@set_option
@loss_option
@click.option("--seed", default=0, show_default=True, help="Decides weights and order.")
@pass_app
def create(
    app: App,
    architecture: str,
    sequences: str,
    options: dict[str, object],
    loss: str | None,
    seed: int,
) -> None:
    """Plan a run and print its id.

    \b
    Example:
      lvmdb runs create --architecture mamba2 --sequences wiki5 --set layers=6 --set epochs=3
      lvmdb runs create --architecture lstm --sequences wiki5 --loss cosine --set residual=false
    """
    from lvmdb.training.plan import plan

    click.echo(plan(app.database, architecture, sequences, options, loss=loss, seed=seed))


@runs.command("list")
@format_option
@pass_app
def list_runs(app: App, output_format: str) -> None:
    """All runs, newest first.

    \b
    Example:
      lvmdb runs list
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "runs", "list_runs"), output_format)


@runs.command("show")
@click.argument("run_id", type=int)
@format_option
@pass_app
def show_run(app: App, run_id: int, output_format: str) -> None:
    """All that is known of a run, its error with the traceback included.

    \b
    Example:
      lvmdb runs show 7
    """
    from lvmdb.reports.named import listing

    columns, rows = listing(app.database, "runs", "show_run", {"run_id": run_id})
    if not rows:
        raise UnknownNameError("run", run_id, hint="'lvmdb runs list' shows those that exist")
    if output_format == "table":
        pairs = [{"item": column, "value": rows[0][column]} for column in columns]
        show(["item", "value"], pairs, output_format)
    else:
        show(columns, rows, output_format)


@runs.command()
@click.argument("a", type=int)
@click.argument("b", type=int)
@click.option("--all", "everything", is_flag=True, help="Also what does not differ.")
@format_option
@pass_app
def diff(app: App, a: int, b: int, everything: bool, output_format: str) -> None:
    """What differs between two runs: what they were made from, and their results.

    A difference of results is A less B, with the 95 % interval of articles drawn with replacement;
    values of other data, pools or versions of a metric are not compared.

    \b
    Example:
      lvmdb runs diff 7 9
      lvmdb runs diff 7 9 --all --format json
    """
    from lvmdb.reports.comparison import COLUMNS, compare

    lines = [line for line in compare(app.database, a, b) if everything or line.differs]
    show(COLUMNS, [vars(line) for line in lines], output_format)


@runs.command()
@click.argument("run_id", type=int)
@click.option("--keep", is_flag=True, help="Leave the new run also where it is identical.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda", "mps"]),
    help="Where to train and evaluate.  [default: where the run was trained]",
)
@format_option
@pass_app
def reproduce(app: App, run_id: int, keep: bool, device: str | None, output_format: str) -> None:
    """Train a run again from its row and compare every value, bit for bit.

    The new run is deleted when it is identical, and kept when it is not: then the exit code is 1.
    After an interruption the same command goes on.

    \b
    Example:
      lvmdb runs reproduce 7
      lvmdb runs reproduce 7 --keep --device cpu
    """
    from lvmdb.db import runs as run_rows
    from lvmdb.decoding.round_trip import round_trip_of
    from lvmdb.evaluation import reproduce as again

    run = run_rows.get(app.database, run_id)
    with round_trip_of(app.database, app.settings, run, again=True) as round_trip:
        found = again.reproduce(
            app.database,
            run_id,
            device=device,
            keep=keep,
            progress=app.progress,
            round_trip=round_trip,
        )
    rows = [dict(vars(check)) for check in found.checks]
    if output_format == "table":
        # Every digit: that is where they may differ.
        for row in rows:
            row |= {
                name: None if row[name] is None else str(row[name])
                for name in ("original", "reproduced")
            }
    show(list(rows[0]), rows, output_format)
    if found.first_difference is not None:
        raise RunError(found.verdict)
    app.progress.say(found.verdict)


@runs.command()
@click.argument("run_id", type=int)
@pass_app
def cancel(app: App, run_id: int) -> None:
    """Mark a run as not to be trained; one that waits leaves the queue, one that runs stops.

    \b
    Example:
      lvmdb runs cancel 7
    """
    from lvmdb.scheduling import queue

    before = queue.cancel(app.database, run_id)
    stops = ", and its process stops in a moment" if before == "running" else ""
    click.echo(f"run {run_id} is cancelled{stops}")


@runs.command()
@click.argument("run_ids", type=int, nargs=-1, required=True, metavar="RUN_ID...")
@click.option(
    "--priority", type=int, help="The highest is taken first; by default 0, or what a run has."
)
@pass_app
def enqueue(app: App, run_ids: tuple[int, ...], priority: int | None) -> None:
    """Queue planned or failed runs for the workers, all of them or none.

    A run that has a checkpoint goes on from there.

    \b
    Example:
      lvmdb runs enqueue 7 8 9
      lvmdb worker --until-empty
    """
    from lvmdb.scheduling import queue

    with app.database.begin() as connection:
        for run_id in run_ids:
            queue.enqueue(connection, run_id, priority=priority)
    for run_id in run_ids:
        click.echo(f"run {run_id} is queued")


@runs.command()
@click.argument("run_id", type=int)
@pass_app
def retry(app: App, run_id: int) -> None:
    """Plan a failed or cancelled run again; it goes on from its last checkpoint.

    \b
    Example:
      lvmdb runs retry 7
    """
    from lvmdb.db import runs as rows

    rows.retry(app.database, run_id)
    click.echo(f"run {run_id} is planned")


@runs.command()
@click.argument("run_id", type=int)
@click.option(
    "--alias", default="production", show_default=True, metavar="NAME", help="What it is known as."
)
@pass_app
def promote(app: App, run_id: int, alias: str) -> None:
    """Let an alias stand for a run: whoever asks for the alias gets the run that it stands for.

    A run that an alias stands for cannot be deleted.

    
    Example:
      lvmdb runs promote 7
      lvmdb runs promote 9 --alias candidate
    """
    from lvmdb.db import aliases

    before = aliases.promote(app.database, run_id, alias)
    was = "no run" if before is None else f"run {before}"
    click.echo(f"{alias}: {was} -> run {run_id}")


@runs.command()
@click.argument("run_id", type=int)
@click.option("--yes", is_flag=True, help="Without asking.")
@pass_app
def delete(app: App, run_id: int, yes: bool) -> None:
    """Delete a run with its metrics, checkpoints, predictions and evaluations.

    \b
    Example:
      lvmdb runs delete 7 --yes
    """
    from lvmdb.db import runs as rows

    rows.get(app.database, run_id)
    if not yes:
        click.confirm(f"Delete run {run_id} and all that it measured?", abort=True, err=True)
    rows.remove(app.database, run_id)
    click.echo(f"run {run_id} is deleted")


runs.add_command(export)
runs.add_command(fork)
runs.add_command(stages)
