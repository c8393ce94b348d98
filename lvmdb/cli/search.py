"""`lvmdb search`: nearest concepts."""

from __future__ import annotations

import click

from lvmdb.cli.app import App, Command, dataset_option, format_option, pass_app, show
from lvmdb.errors import UsageError


@click.command(cls=Command)
@click.argument("text", required=False)
@click.option("--cpe-id", metavar="ID", help="The neighbours of a concept instead of a text.")
@click.option("-k", default=10, show_default=True, metavar="N", help="How many.")
@click.option("--exact", is_flag=True, help="Compare with every vector instead of an index.")
@dataset_option
@format_option
@pass_app
def search(
    app: App,
    text: str | None,
    cpe_id: str | None,
    k: int,
    exact: bool,
    dataset: str | None,
    output_format: str,
) -> None:
    """The nearest concepts of a text or of a concept.

    \b
    Example:
      lvmdb search "how generators work" -k 3
      lvmdb search --cpe-id 5d6e8f1a-... --exact
    """
    from lvmdb.corpus import encoders
    from lvmdb.retrieval import search as retrieval

    if (text is None) == (cpe_id is None):
        raise UsageError("give a text or --cpe-id, and not both")
    if cpe_id is not None:
        hits = retrieval.by_concept(app.database, cpe_id, k, exact=exact)
    else:
        name = app.dataset(dataset)
        retrieval.check(app.database, name, k, exact=exact)
        vector = encoders.encode_beside(app.database, app.settings, name, [text or ""])[0]
        hits = retrieval.by_vector(app.database, name, vector, k, exact=exact)
    rows = [
        {"cosine": round(hit.cosine, 4), "title": hit.title, "seq": hit.seq,
         "concept_text": hit.concept_text, "cpe_id": hit.cpe_id}
        for hit in hits
    ]  # fmt: skip
    show(["cosine", "title", "seq", "concept_text", "cpe_id"], rows, output_format)
