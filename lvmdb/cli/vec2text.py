"""`lvmdb vec2text`: the environment in which vec2text runs."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, Group, pass_app


@click.group(cls=Group)
def vec2text() -> None:
    """The environment in which vec2text runs, for 'lvmdb serve decoding'.

    \b
    Example:
      lvmdb vec2text install
    """


@vec2text.command(cls=Command)
@click.option(
    "--torch-index",
    metavar="URL",
    help="Where to look for PyTorch as well, such as https://download.pytorch.org/whl/cpu, if "
    "lvmdb's own cannot be shared.",
)
@pass_app
def install(app: App, torch_index: str | None) -> None:
    """Make the environment in LVMDB_VEC2TEXT, by default LVMDB_HOME/vec2text, or make it anew.

    vec2text needs older packages than lvmdb. What lvmdb's own environment has in the right version,
    PyTorch above all, is shared; about 20 MB are downloaded.

    \b
    Example:
      lvmdb vec2text install
    """
    from lvmdb.decoding import vec2text_environment

    folder = vec2text_environment.folder_of(app.settings)
    vec2text_environment.install(folder, app.progress.say, torch_index)
    click.echo(f"vec2text is installed in {folder}: 'lvmdb serve decoding'")
