"""`lvmdb search`: nearest concepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lvmdb.cli.app import App, Command, dataset_option, format_option, pass_app, show
from lvmdb.cli.index_recall import metric_option, storage_option
from lvmdb.errors import InputError, UsageError

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("text", required=False)
@click.option("--cpe-id", metavar="ID", help="The neighbours of a concept instead of a text.")
@click.option("--vector", type=_FILE, metavar="FILE.npy", help="Those of a vector of 768 numbers.")
@click.option("-k", default=10, show_default=True, metavar="N", help="How many.")
@click.option("--tmd", metavar="D.T.M", help="Only concepts of this code; * stands for any.")
@click.option("--article", type=int, metavar="ID", help="Only concepts of this article.")
@click.option("--without", multiple=True, metavar="ID", help="Never this concept; repeatable.")
@click.option("--exact", is_flag=True, help="Compare with every vector instead of an index.")
@click.option("--index", "file", type=_FILE, metavar="FILE", help="Ask this FAISS index.")
@storage_option
@metric_option
@click.option("--effort", type=int, metavar="N", help="ef_search, or probes, of this search.")
@dataset_option
@format_option
@pass_app
def search(
    app: App,
    text: str | None,
    cpe_id: str | None,
    vector: Path | None,
    k: int,
    tmd: str | None,
    article: int | None,
    without: tuple[str, ...],
    exact: bool,
    file: Path | None,
    storage: str | None,
    metric: str | None,
    effort: int | None,
    dataset: str | None,
    output_format: str,
) -> None:
    """The nearest concepts of a text, of a concept or of a vector.

    A filter never leaves fewer than there are: where the index ends short of them, or so few
    concepts are left that comparing them is faster, the search is exact, and says so.

    \b
    Example:
      lvmdb search "how generators work" -k 3
      lvmdb search "how generators work" --tmd '7.*.*'
      lvmdb search --cpe-id 5d6e8f1a-... --exact
      lvmdb search --vector prediction.npy --article 12
    """
    import uuid

    from lvmdb.db.nearest import Filter
    from lvmdb.retrieval.found import parse_tmd
    from lvmdb.retrieval.search import search as retrieve

    if sum(given is not None for given in (text, cpe_id, vector)) != 1:
        raise UsageError("give a text, --cpe-id or --vector, and one of them only")
    try:
        left_out = tuple(uuid.UUID(each) for each in without)
    except ValueError:
        raise UsageError("--without is a concept's id, a UUID, each time") from None
    only = Filter(article, parse_tmd(tmd) if tmd is not None else None, left_out)
    asked: dict[str, Any] = {"text": text, "concept": cpe_id}
    if vector is not None:
        asked["vector"] = read_vector(vector)
    name = dataset
    if cpe_id is None or dataset is not None:
        name = app.dataset(dataset)
    if exact and (storage is not None or effort is not None):
        raise UsageError("--exact asks no index: no --storage or --effort")
    if file is not None:
        if exact or storage is not None or metric is not None or effort is not None:
            raise UsageError(
                "--index FILE is an index of its own: no --exact, --storage, --metric or --effort"
            )
        asked["file"] = file
    hits, found = retrieve(
        app.database,
        name,
        **asked,
        settings=app.settings,
        k=k,
        only=only,
        exact=exact,
        storage=storage,
        metric=metric,
        effort=effort,
    )
    if found.why is not None:
        app.progress.say(f"searched exactly: {found.why}")
    rows = [
        {"cosine": round(hit.cosine, 4), "title": hit.title, "seq": hit.seq,
         "concept_text": hit.concept_text, "cpe_id": hit.cpe_id, "article_id": hit.article_id}
        for hit in hits
    ]  # fmt: skip
    columns = ["cosine", "title", "seq", "concept_text", "cpe_id", "article_id"]
    show(columns, rows, output_format)


def read_vector(path: Path) -> Any:
    """The vector in a file of numpy, `(768,)`.

    Raises:
        InputError: there is none.
    """
    import numpy as np

    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: no vector that numpy reads ({error})") from None
    if not isinstance(found, np.ndarray) or found.size != 768 or found.dtype.kind != "f":
        raise InputError(f"{path}: not one vector of 768 floating-point numbers")
    return found.reshape(768)
