"""Exports: the view's windows and the corpus's order, in files that are whole or not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import bulk
from lvmdb.db.engine import Database
from lvmdb.errors import InputError, SequenceError
from lvmdb.sequences import export
from lvmdb.sequences.export import export_concepts, export_sequences
from lvmdb.sequences.sets import SequenceSet

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Arrays = dict[str, NDArray[Any]]

SPLITS = ("train", "val", "test")
KEYS = ("contexts", "targets", "masks")

VIEW = """
SELECT vector_send(w.target_vec), ARRAY(SELECT vector_send(v) FROM unnest(w.context_vecs)
                                        WITH ORDINALITY AS m (v, n) ORDER BY n)
FROM training_sequence_vector w
JOIN sequence_article sa USING (sequence_set_id, article_id)
WHERE w.split = %s ORDER BY sa.position, w.target_seq
"""


def loaded(path: Path) -> Arrays:
    """What anyone with numpy reads, without pickle."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("scope", ["article", "corpus"])
def test_windows_are_those_of_the_view(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, tmp_path: Path, scope: str
) -> None:
    corpus([7, 1, 12, 3, 9, 6, 20, 2, 8, 11])
    made = sequence_set(context_len=3, scope=scope, split=(40, 30, 30))
    path = tmp_path / "s.npz"
    counts = export_sequences(db, made, path)
    arrays = loaded(path)
    assert list(arrays) == [
        f"{s}_{key}" for s in SPLITS for key in ("contexts", "targets", "masks")
    ]
    assert counts == {split: made.window_count(split) for split in SPLITS}
    for split in SPLITS:
        rows = sql(VIEW, [split])
        contexts, targets, masks = (arrays[f"{split}_{key}"] for key in KEYS)
        assert contexts.shape == (len(rows), 3, 768)
        assert targets.shape == (len(rows), 768)
        assert [str(a.dtype) for a in (contexts, targets, masks)] == ["float32"] * 2 + ["int64"]
        assert masks.shape == (len(rows), 3)
        assert (masks == 1).all()
        expected = bulk.parsed_vectors([target for target, _ in rows], 768)
        assert targets.tobytes() == expected.tobytes()
        read = bulk.parsed_vectors([v for _, context in rows for v in context], 768)
        assert contexts.tobytes() == read.tobytes()


def test_a_split_without_windows_is_an_empty_array(
    db: Database, corpus: Corpus, sequence_set: MakeSet, tmp_path: Path
) -> None:
    corpus([7, 7, 7])
    made = sequence_set(split=(100, 0, 0))
    assert export_sequences(db, made, tmp_path / "s.npz") == {"train": 15, "val": 0, "test": 0}
    arrays = loaded(tmp_path / "s.npz")
    assert arrays["val_contexts"].shape == (0, 2, 768)
    assert arrays["test_masks"].shape == (0, 2)


def test_concepts_come_in_corpus_order(
    db: Database, corpus: Corpus, sql: Sql, tmp_path: Path
) -> None:
    articles = [*corpus([3, 2], first=7), *corpus([4], first=0)]
    corpus([2], dataset="other", seed=5)
    sql(
        "UPDATE cpe_entry SET (domain_code, task_code, modifier_code, tmd_source) = "
        "(1, 2, 3, 'given') WHERE seq = 1 AND dataset_source = 'wiki'"
    )
    sql("UPDATE cpe_entry SET concept_text = 'Größe → 漢字 ' WHERE seq = 2")
    path = tmp_path / "concepts.npz"
    assert export_concepts(db, "wiki", path) == 9
    arrays = loaded(path)
    assert list(arrays) == ["cpe_ids", "concept_texts", "vectors", "tmd_codes"]
    rows = sql(
        "SELECT cpe_id::text, concept_text, coalesce(tmd_code, '') FROM cpe_entry "
        "JOIN article USING (article_id, dataset_source) WHERE dataset_source = 'wiki' "
        "ORDER BY ordinal, seq"
    )
    assert arrays["cpe_ids"].tolist() == [row[0] for row in rows]
    assert arrays["concept_texts"].tolist() == [row[1] for row in rows]
    assert arrays["tmd_codes"].tolist() == [row[2] for row in rows]
    assert arrays["tmd_codes"].tolist().count("1.2.3") == 3
    expected = np.concatenate([article.vectors for article in articles])
    assert arrays["vectors"].tobytes() == expected.tobytes()
    assert arrays["vectors"].dtype == np.float32


def test_what_cannot_be_exported_is_told(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, tmp_path: Path
) -> None:
    corpus([5] * 5)
    made = sequence_set()
    for path in (tmp_path / "no" / "s.npz", tmp_path):
        with pytest.raises(InputError, match=f"cannot write {path}: "):
            export_sequences(db, made, path)
        with pytest.raises(InputError, match=f"cannot write {path}: "):
            export_concepts(db, "wiki", path)
    with pytest.raises(SequenceError, match="is a draft"):
        export_sequences(db, sequence_set("d", freeze_it=False), tmp_path / "d.npz")
    sql("INSERT INTO dataset (dataset_source) VALUES ('empty')")
    with pytest.raises(InputError, match="'empty' has no concepts to export"):
        export_concepts(db, "empty", tmp_path / "e.npz")
    corpus([3], dataset="other", seed=5)
    sql(
        "UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL "
        "WHERE seq = 2 AND dataset_source = 'other'"
    )
    with pytest.raises(InputError, match="'other' has concepts without a vector"):
        export_concepts(db, "other", tmp_path / "v.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_half_written_file_never_appears(
    db: Database,
    corpus: Corpus,
    sequence_set: MakeSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    corpus([5] * 5)
    made = sequence_set()
    path = tmp_path / "s.npz"
    export_sequences(db, made, path)
    before = path.read_bytes()
    monkeypatch.setattr(export, "BATCH", 2)
    honest, calls = np.ascontiguousarray, 0

    def breaks(block: NDArray[Any]) -> NDArray[Any]:
        nonlocal calls
        calls += 1
        if calls == 3:
            # The old file stands under its name; what is being written has another.
            assert path.read_bytes() == before
            assert len(list(tmp_path.iterdir())) == 2
            raise error
        return honest(block)

    monkeypatch.setattr(np, "ascontiguousarray", breaks)
    expected = InputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        export_sequences(db, made, path)
    assert calls == 3
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["s.npz"]


def test_an_export_is_an_ordinary_file(db: Database, corpus: Corpus, tmp_path: Path) -> None:
    corpus([3])
    path = tmp_path / "c.npz"
    export_concepts(db, "wiki", path)
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
