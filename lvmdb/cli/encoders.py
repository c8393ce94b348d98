"""`lvmdb encoders`: which model made which vectors, and whether it still does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lvmdb.cli.app import App, Group, format_option, pass_app, show

if TYPE_CHECKING:
    from lvmdb.corpus.encoder import EncoderSpec

Function = TypeVar("Function", bound=Callable[..., Any])


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

    Length is that of a typical vector before it was normalised.

    \b
    Example:
      lvmdb encoders list
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "corpus", "list_encoders"), output_format)


def _loading(function: Function) -> Function:
    """The options that say how an encoder is loaded."""
    options = (
        click.option(
            "--kind",
            metavar="K",
            help="sentence-transformers, vec2text, openai or tei; by default as the name says.",
        ),
        click.option("--endpoint", metavar="URL", help="The address, of kinds openai and tei."),
        click.option(
            "--model",
            metavar="M",
            help="Name or folder of its model, or what an endpoint calls it, if not by its name.",
        ),
        click.option(
            "--precision", metavar="P", help="fp32, bf16 or int8.  [default: as before, or fp32]"
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@encoders.command()
@click.argument("name")
@_loading
@pass_app
def add(
    app: App,
    name: str,
    kind: str | None,
    endpoint: str | None,
    model: str | None,
    precision: str | None,
) -> None:
    """Load a model and store its fingerprint and how it is loaded.

    An encoder that is there may be loaded in another way from now on, say from an endpoint or in
    bf16, if it gives its fingerprint again: else it is another one, and takes another name. The key
    of an endpoint is LVMDB_ENCODER_KEY, and is stored nowhere.

    \b
    Example:
      lvmdb encoders add sentence-transformers/gtr-t5-base
      lvmdb encoders add vec2text/gtr-t5-base
      lvmdb encoders add mpnet-int8 --model sentence-transformers/all-mpnet-base-v2 \\
          --precision int8
      lvmdb encoders add gtr --kind tei --endpoint http://127.0.0.1:8080
      lvmdb encoders add small --kind openai --endpoint https://api.openai.com/v1 \\
          --model text-embedding-3-small@768
    """
    from lvmdb.corpus import encoders as known

    database = app.database
    with database.connect() as connection:
        row = known.spec_of(connection, name)
    spec = _spec(row, name, kind, endpoint, model, precision)
    loaded = known.load_as(app.settings, spec, progress=app.progress)
    known.add(database, loaded)
    tokens = "any number of" if loaded.max_tokens is None else f"at most {loaded.max_tokens}"
    pooling = "unknown" if loaded.pooling is None else loaded.pooling
    click.echo(f"{name}: {pooling} pooling, {tokens} tokens, {loaded.precision or 'its precision'}")


@encoders.command()
@click.argument("name")
@_loading
@pass_app
def verify(
    app: App,
    name: str,
    kind: str | None,
    endpoint: str | None,
    model: str | None,
    precision: str | None,
) -> None:
    """Load the model and hold it against its fingerprint, or against its concepts.

    The vectors of an import have no fingerprint. A model that gives a sample of them again gets
    one, and text may be encoded beside them from then on.

    \b
    Example:
      lvmdb encoders verify sentence-transformers/all-mpnet-base-v2
      lvmdb encoders verify mpnet --model ./all-mpnet-base-v2
      lvmdb encoders verify mpnet --kind tei --endpoint http://127.0.0.1:8080
    """
    from lvmdb.corpus import encoder_verification
    from lvmdb.corpus import encoders as known

    database = app.database
    with database.connect() as connection:
        known.encoder_id_of(connection, name)
        row = known.spec_of(connection, name)
    spec = _spec(row, name, kind, endpoint, model, precision)
    loaded = known.load_as(app.settings, spec, progress=app.progress)
    found = encoder_verification.verify(database, loaded)
    click.echo(
        f"{name} matches {found.against}: lowest cosine {found.lowest:.6f} of {found.compared}"
    )


def _spec(
    row: EncoderSpec | None,
    name: str,
    kind: str | None,
    endpoint: str | None,
    model: str | None,
    precision: str | None,
) -> EncoderSpec:
    """What the options say; where they say nothing, the row, else the name.

    Raises:
        UsageError: these do not go together.
    """
    from pathlib import Path

    from lvmdb.corpus.encoder import ENDPOINT_KINDS, EncoderSpec

    before = row or EncoderSpec.of_name(name)
    # An option of another kind than before says nothing of what the row says besides.
    same = kind is None or kind == before.kind
    kind = kind or before.kind
    if kind in ENDPOINT_KINDS:
        return EncoderSpec(
            name,
            kind,
            model or (before.model if same else None),
            endpoint or (before.endpoint if same else None),
            precision,
        )
    if model is not None and Path(model).expanduser().is_dir():
        # The row is read from other folders than this one.
        model = str(Path(model).expanduser().absolute())
    if model is None and before.kind not in ENDPOINT_KINDS:
        model = before.model
    return EncoderSpec(name, kind, model, endpoint, precision or before.precision or "fp32")
