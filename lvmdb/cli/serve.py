"""`lvmdb serve`: the HTTP services, one or all of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import click

from lvmdb.cli.app import App, Group, format_option, pass_app, show
from lvmdb.errors import ConnectionLostError, ServiceError

if TYPE_CHECKING:
    from lvmdb.services.catalogue import Service

DETACH_SECONDS = 60.0
"""In which services that go into the background must answer."""


class ServeGroup(Group):
    """`lvmdb serve chunking` is short for `lvmdb serve start chunking`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `start` in front of what is neither a command nor an option of the group."""
        ctx.ignore_unknown_options = True
        _, rest, _ = self.make_parser(ctx).parse_args(list(args))
        ctx.ignore_unknown_options = False
        if rest and rest[0] not in self.commands:
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=ServeGroup)
def serve() -> None:
    """The HTTP services: chunking, tmd, lvm and ingest (8001 to 8004), embedding and decoding.

    \b
    Example:
      lvmdb serve embedding
      lvmdb serve status
    """


@serve.command()
@click.argument("names", nargs=-1, required=True, metavar="SERVICE...")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="H",
    help="Where to listen; beyond this machine callers need the token of LVMDB_TOKEN.",
)
@click.option(
    "--port-base",
    type=int,
    default=8000,
    show_default=True,
    metavar="N",
    help="What ports are counted from: chunking N+1, tmd N+2, lvm N+3, ingest N+4, embedding "
    "N+767, decoding N+768.",
)
@click.option("--dataset", metavar="D", help="Where to ingest, unless a request says.")
@click.option(
    "--encoder",
    metavar="E",
    help="A model's name or folder, or none (ingest, lvm).  [default: the dataset's, else "
    "sentence-transformers/gtr-t5-base]",
)
@click.option(
    "--chunker",
    default="sentence",
    show_default=True,
    metavar="C",
    help="What ingest cuts with; semantic lets chunking load the encoder, too.",
)
@click.option(
    "--tagger", default="embedding", show_default=True, metavar="T", help="embedding or llm."
)
@click.option(
    "--inverter",
    metavar="M",
    help="Of vec2text, a name or folder (decoding).  [default: the encoder's]",
)
@click.option("--corrector", metavar="M", help="The same; the two go together.")
@click.option("--detach", is_flag=True, help="In the background; return when they answer.")
@pass_app
def start(
    app: App,
    names: tuple[str, ...],
    host: str,
    port_base: int,
    dataset: str | None,
    encoder: str | None,
    chunker: str,
    tagger: str,
    inverter: str | None,
    corrector: str | None,
    detach: bool,
) -> None:
    """Serve: `all`, or any of them by name; `start` may be left out.

    Each is a process of its own, which is started again if it crashes. Ctrl-C stops all. What they
    say goes to standard error and into LVMDB_HOME/services. They listen at once, and answer
    /health with 503 until the database answers and their model is loaded. What `all` leaves out is
    decoding, where 'lvmdb vec2text install' was not run.

    \b
    Example:
      lvmdb serve start all --detach
      lvmdb serve chunking embedding --encoder sentence-transformers/gtr-t5-base
      lvmdb serve ingest --dataset news --host 0.0.0.0
    """
    from lvmdb.db.types import checked_name
    from lvmdb.services.catalogue import chosen

    services = _with_environment(app, chosen(names), names)
    if dataset is not None:
        checked_name("dataset", dataset)
    _require_packages()
    from lvmdb.decoding.correctors import require_both
    from lvmdb.services.options import ServiceOptions, require_token
    from lvmdb.services.supervisor import Supervisor

    options = ServiceOptions(
        settings=app.settings,
        dsn=_dsn(app),
        host=host,
        dataset=dataset,
        encoder=encoder,
        chunker=chunker,
        tagger=tagger,
        inverter=inverter,
        corrector=corrector,
    )
    require_token(options)
    require_both(inverter, corrector)
    if detach:
        given = {"host": host, "port-base": port_base, "dataset": dataset, "encoder": encoder,
                 "chunker": chunker, "tagger": tagger, "inverter": inverter,
                 "corrector": corrector}  # fmt: skip
        flags = [f"--{flag}={value}" for flag, value in given.items() if value is not None]
        _detach(app, services, options.dsn, flags)
        return
    supervisor = Supervisor(services, options, port_base, app.progress.say)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()


@serve.command()
@format_option
@pass_app
def status(app: App, output_format: str) -> None:
    """Which services run, and whether they are ready; exit 1 if one is not.

    \b
    Example:
      lvmdb serve status --format json
    """
    from lvmdb.services import watch

    seen = watch.look(app.settings.home)
    rows = [service.row(app.settings.home) for service in seen]
    show(list(rows[0]), rows, output_format)
    unwell = [
        f"{s.service} is {s.state}{s.reason and f' ({s.reason})'}" for s in seen if not s.well
    ]
    if unwell:
        raise ServiceError("; ".join(unwell))


@serve.command()
@click.argument("names", nargs=-1, metavar="[SERVICE]...")
@pass_app
def stop(app: App, names: tuple[str, ...]) -> None:
    """Stop services, all of them unless some are named; requests that run may end.

    \b
    Example:
      lvmdb serve stop
      lvmdb serve stop tmd
    """
    from lvmdb.services import watch
    from lvmdb.services.catalogue import ALL, chosen

    stopped = watch.stop(app.settings.home, chosen(names or (ALL,)))
    click.echo(f"stopped: {', '.join(stopped)}" if stopped else "no service ran")


def _with_environment(app: App, services: list[Service], names: tuple[str, ...]) -> list[Service]:
    """The services without decoding, if it is among `all` alone and cannot run.

    Raises:
        SettingsError: it was asked for by name, and cannot run.
    """
    from lvmdb.decoding import vec2text_environment

    folder = vec2text_environment.folder_of(app.settings)
    if "decoding" in names:
        vec2text_environment.command(folder)
    problem = vec2text_environment.lacking(folder)
    if problem is None or all(service.name != "decoding" for service in services):
        return services
    app.progress.say(f"decoding is left out: {problem}")
    return [service for service in services if service.name != "decoding"]


def _require_packages() -> None:
    from importlib.util import find_spec

    from lvmdb.errors import MissingDependencyError

    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise MissingDependencyError(package, "services", "serving over HTTP")


def _dsn(app: App) -> str:
    """The database's; one that is away is waited for by the services, if it is another's to start.

    Raises:
        DatabaseError: the embedded server does not start, or the database is at another revision.
    """
    try:
        return app.database.dsn
    except ConnectionLostError:
        if app.external_dsn is None:
            raise
        app.progress.say("the database does not answer: the services wait for it")
        return app.external_dsn


def _detach(app: App, services: list[Service], dsn: str, flags: list[str]) -> None:
    from lvmdb.services import records
    from lvmdb.settings import child_environment

    home = app.settings.home
    for service in services:
        found, runs = records.running(home, service.name)
        if runs:
            where = f" at {found.url}" if found else ""
            raise ServiceError(f"the service {service.name} runs already{where}")
    said = records.log_file(home, "supervisor")
    try:
        said.parent.mkdir(parents=True, exist_ok=True)
        with said.open("w", encoding="utf-8") as log:
            names = [service.name for service in services]
            process = subprocess.Popen(
                [sys.executable, "-m", "lvmdb", "-q", "serve", "start", *names, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment({"LVMDB_DSN": dsn}),
                start_new_session=True,
            )
    except OSError as error:
        raise ServiceError(f"cannot write to {said.parent}: {error.strerror}") from error
    deadline = time.monotonic() + DETACH_SECONDS
    while True:
        seen = [records.running(home, service.name)[0] for service in services]
        live = [record for record in seen if record is not None and record.live]
        if len(live) == len(services):
            break
        if process.poll() is not None:
            lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
            raise ServiceError((lines or ["it ended at once"])[-1].removeprefix("lvmdb: "))
        if time.monotonic() > deadline:
            process.terminate()
            raise ServiceError(f"the services did not answer within {DETACH_SECONDS:g} s: {said}")
        time.sleep(0.1)
    for record in live:
        click.echo(f"{record.service}: {record.url}")
