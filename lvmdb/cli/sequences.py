"""`lvmdb sequences`: what is trained on, validated on and tested on."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lvmdb.cli.app import (
    App,
    Group,
    OutputFile,
    dataset_option,
    format_option,
    pass_app,
    show,
)
from lvmdb.errors import UsageError

if TYPE_CHECKING:
    from lvmdb.sequences.sets import SequenceSet

leaks_option = click.option(
    "--allow-leaks",
    type=int,
    metavar="N",
    help="Admit up to N pairs of near-duplicate concepts between splits.",
)


@click.group(cls=Group)
def sequences() -> None:
    """Sequence sets: windows over a dataset, split by article.

    \b
    Example:
      lvmdb sequences create wiki5 --dataset wiki --context 5
    """


@sequences.command()
@click.argument("name")
@dataset_option
@click.option("--context", type=int, metavar="N", help="Concepts in a context.  [default: 5]")
@click.option("--stride", type=int, metavar="N", help="Step between windows.  [default: 1]")
@click.option("--split", metavar="A/B/C", help="Train, val, test.  [default: 80/10/10]")
@click.option("--seed", default=0, show_default=True, help="Decides which article goes where.")
@click.option(
    "--within",
    metavar="SET",
    help="Take articles from this frozen set alone, each with its split there; of two such sets "
    "with one seed the larger holds the smaller. Context and stride are by default SET's.",
)
@click.option(
    "--scope",
    type=click.Choice(["article", "corpus"]),
    default="article",
    show_default=True,
    help="corpus lets windows cross articles: only to reproduce old numbers.",
)
@click.option("--max-concepts", type=int, metavar="N", help="A seeded sample of whole articles.")
@click.option(
    "--shards",
    default=16,
    show_default=True,
    metavar="N",
    help="Virtual shards, a power of two: the most processes that can train on it together.",
)
@leaks_option
@click.option("--draft", is_flag=True, help="Do not freeze yet.")
@pass_app
def create(
    app: App,
    name: str,
    dataset: str | None,
    context: int | None,
    stride: int | None,
    split: str | None,
    seed: int,
    within: str | None,
    scope: str,
    max_concepts: int | None,
    shards: int,
    allow_leaks: int | None,
    draft: bool,
) -> None:
    """Make a sequence set and freeze it.

    Articles that share near-duplicate concepts (cosine at least .995) are put on one side; what is
    left of them between splits is refused, unless --allow-leaks admits it.

    \b
    Example:
      lvmdb sequences create wiki5 --dataset wiki --context 5
      lvmdb sequences create wiki10k --dataset wiki --max-concepts 10000
      lvmdb sequences create wiki1k --within wiki10k --max-concepts 1000
    """
    from lvmdb.sequences import sets

    outer = None if within is None else sets.get(app.database, within)
    if outer is not None and split is not None:
        raise UsageError(f"--split: within '{outer.name}' each article keeps the split that it has")
    usual = (5, 1) if outer is None else (outer.context_len, outer.stride)
    spec = sets.SequenceSpec(
        name=name,
        dataset=app.dataset(dataset if outer is None else dataset or outer.dataset_source),
        context_len=usual[0] if context is None else context,
        stride=usual[1] if stride is None else stride,
        fractions=_fractions(split or "80/10/10"),
        within=within,
        seed=seed,
        scope=scope,
        max_concepts=max_concepts,
        shards=shards,
        allowed_leaks=allow_leaks or 0,
    )
    _describe(sets.create(app.database, spec, freeze_it=not draft, progress=app.progress))


@sequences.command()
@click.argument("name")
@leaks_option
@pass_app
def freeze(app: App, name: str, allow_leaks: int | None) -> None:
    """Count and fingerprint a draft; from then on it cannot change.

    \b
    Example:
      lvmdb sequences freeze wiki5
      lvmdb sequences freeze wiki5 --allow-leaks 3
    """
    from lvmdb.sequences import sets

    _describe(sets.freeze(app.database, name, allow_leaks=allow_leaks, progress=app.progress))


@sequences.command("list")
@format_option
@pass_app
def list_sets(app: App, output_format: str) -> None:
    """All sequence sets with their counts.

    \b
    Example:
      lvmdb sequences list --format json
    """
    from lvmdb.reports.named import listing

    show(*listing(app.database, "sequences", "list_sets"), output_format)


@sequences.command("show")
@click.argument("name")
@format_option
@pass_app
def show_set(app: App, name: str, output_format: str) -> None:
    """One sequence set.

    \b
    Example:
      lvmdb sequences show wiki5
    """
    from lvmdb.reports.named import listing
    from lvmdb.sequences import sets

    sets.get(app.database, name)
    columns, rows = listing(app.database, "sequences", "list_sets")
    show(columns, [row for row in rows if row["name"] == name], output_format)


@sequences.command()
@click.argument("name")
@click.argument("file", type=OutputFile())
@pass_app
def export(app: App, name: str, file: Path) -> None:
    """Write contexts, targets and masks of each split to FILE (NPZ).

    \b
    Example:
      lvmdb sequences export wiki5 wiki5.npz
    """
    from lvmdb.sequences import sets
    from lvmdb.sequences.export import export_sequences

    chosen = sets.get(app.database, name)
    counts = export_sequences(app.database, chosen, file, progress=app.progress)
    shown = ", ".join(f"{split} {count}" for split, count in counts.items())
    click.echo(f"wrote {file}: {shown} windows")


@sequences.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Without asking.")
@pass_app
def delete(app: App, name: str, yes: bool) -> None:
    """Delete a sequence set that no run rests on.

    \b
    Example:
      lvmdb sequences delete wiki5 --yes
    """
    from lvmdb.sequences import sets

    sets.get(app.database, name)
    if not yes:
        click.confirm(f"Delete sequence set {name}?", abort=True, err=True)
    sets.remove(app.database, name)
    click.echo(f"deleted {name}")


def _fractions(split: str) -> tuple[Decimal, Decimal, Decimal]:
    try:
        shares = [Decimal(part) / 100 for part in split.split("/")]
        train, val, test = (share for share in shares if share.is_finite())
    except (ValueError, InvalidOperation):
        raise UsageError(f"--split is three shares as in 80/10/10, not '{split}'") from None
    return train, val, test


def _describe(found: SequenceSet) -> None:
    if found.fingerprint is None:
        click.echo(f"{found.name}: a draft; 'lvmdb sequences freeze {found.name}' makes it usable")
        return
    windows = ", ".join(f"{split} {count}" for split, count in found.windows.items())
    leaks = f"{found.leaks} leaks between splits; " if found.leaks else ""
    click.echo(
        f"{found.name}: {found.articles} articles, {found.concepts} concepts, windows {windows}; "
        f"{leaks}fingerprint {found.fingerprint.hex()[:16]}"
    )
