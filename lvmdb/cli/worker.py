"""`lvmdb worker`: takes queued runs, trains and evaluates them."""

from __future__ import annotations

import signal

import click

from lvmdb.cli.app import App, Command, pass_app
from lvmdb.cli.train import device_option


@click.command(cls=Command)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    metavar="N",
    help="Runs at a time.  [default: one on a CPU, one a GPU]",
)
@click.option("--until-empty", is_flag=True, help="End when no run waits, runs or is due any more.")
@device_option
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=55,
    show_default=True,
    metavar="MINUTES",
    help="A run that takes longer is failed; it may go on from its last checkpoint.",
)
@click.option(
    "--max-tries",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="N",
    help="Errors of a run after which it is failed.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Of each run.  [default: the cores, shared out]",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Where to go on is also saved within an epoch, so often; 0 is after every batch.",
)
@pass_app
def worker(
    app: App,
    concurrency: int | None,
    until_empty: bool,
    device: str,
    time_limit: float,
    max_tries: int,
    threads: int | None,
    checkpoint_every: float,
) -> None:
    """Train and evaluate queued runs, each in a process of its own.

    Start as many as you like, on every machine that reaches the database. Ctrl-C and SIGTERM put
    back what is running, for another worker to go on with; a second one does not wait for it.

    \b
    Example:
      lvmdb runs enqueue 7 8 9
      lvmdb worker --concurrency 2 --until-empty
    """
    from lvmdb.scheduling import schedule
    from lvmdb.scheduling.policy import Limits
    from lvmdb.scheduling.slots import slots_here
    from lvmdb.scheduling.tries import child_command
    from lvmdb.scheduling.worker import Worker

    places = slots_here(device, concurrency, threads)
    working = Worker(
        app.database,
        places,
        child_command(checkpoint_every),
        limits=Limits(time=60 * time_limit, tries=max_tries),
        advance=lambda: schedule.advance(app.database),
        until_empty=until_empty,
        progress=app.progress,
        verbose=app.verbose,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: working.stop())
    app.progress.say(
        f"a worker takes up to {len(places)} of the queued runs at a time, on {places[0].device} "
        f"(threads of each: {places[0].threads}); Ctrl-C puts them back"
    )
    counts = working.run()
    click.echo(f"{counts.succeeded} runs succeeded, {counts.failed} failed")
