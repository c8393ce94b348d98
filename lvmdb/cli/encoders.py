"""`lvmdb encoders`: which model made which vectors, and whether it still does."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Group, format_option, pass_app, show


@click.group(cls=Group)
def encoders() -> None:
    """Encoders and their fingerprints.

    \b
    Example:
      lvmdb encoders list
    """


@encoders.command("list")
@format_option
@pass_app
def list_encoders(app: App, output_format: str) -> None:
    """Encoders, what is known of them, and the datasets that they made.

    \b
    Example:
      lvmdb encoders list
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "corpus", "list_encoders"), output_format)


@encoders.command()
@click.argument("name")
@pass_app
def add(app: App, name: str) -> None:
    """Load a model by name or folder and store its fingerprint.

    \b
    Example:
      lvmdb encoders add sentence-transformers/gtr-t5-base
    """
    from lvmdb.corpus import encoders as known

    database = app.database
    loaded = known.load(app.settings, name, progress=app.progress)
    with database.begin() as connection:
        known.register(connection, loaded)
    click.echo(f"{name}: {loaded.pooling} pooling, at most {loaded.max_tokens} tokens")


@encoders.command()
@click.argument("name")
@click.option("--model", metavar="M", help="Where the model is, if not under its name.")
@pass_app
def verify(app: App, name: str, model: str | None) -> None:
    """Load the model and hold it against its fingerprint, or against its concepts.

    The vectors of an import have no fingerprint. A model that gives a sample of them again gets
    one, and text may be encoded beside them from then on.

    \b
    Example:
      lvmdb encoders verify sentence-transformers/all-mpnet-base-v2
      lvmdb encoders verify mpnet --model ./all-mpnet-base-v2
    """
    from lvmdb.corpus import encoders as known

    database = app.database
    with database.connect() as connection:
        known.encoder_id_of(connection, name)
    loaded = known.load(app.settings, name, model=model, progress=app.progress)
    found = known.verify(database, loaded)
    click.echo(
        f"{name} matches {found.against}: lowest cosine {found.lowest:.6f} of {found.compared}"
    )
