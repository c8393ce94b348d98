"""Fingerprints of what runs may read beside texts and vectors, which a set's own does not cover.

TMD codes and probes may be given to concepts, and changed, after a set was frozen. A run that reads
them keeps the fingerprint of what they were when it was planned: a SHA-256 in hexadecimal digits.
"""

from __future__ import annotations

from sqlalchemy import Connection

from lvmdb.db.queries import query
from lvmdb.errors import SequenceError
from lvmdb.sequences.sets import SequenceSet


def tmd(connection: Connection, sequences: SequenceSet) -> str:
    """Of the TMD codes of a set, in its order."""
    return _value(connection, "tmd_fingerprint", sequences)


def probes(connection: Connection, sequences: SequenceSet) -> str:
    """Of the probes of a set with their negatives and domains, in its order."""
    return _value(connection, "probe_fingerprint", sequences)


def require_tmd(connection: Connection, sequences: SequenceSet) -> None:
    """Refuse a set without TMD codes.

    Raises:
        SequenceError: no concept has one.
    """
    if _value(connection, "count_codes", sequences) == "0":
        raise SequenceError(
            f"no concept of sequence set '{sequences.name}' has a TMD code: leave tmd out, or "
            "ingest the dataset with a tagger"
        )


def require_probes(connection: Connection, sequences: SequenceSet) -> None:
    """Refuse a set without probes.

    Raises:
        SequenceError: it has none to train on, or none to validate on.
    """
    for split, purpose in (("train", "train on"), ("val", "find the best epoch by")):
        found = connection.execute(
            query("sequences", "probe_articles"),
            {"sequence_set_id": sequences.sequence_set_id, "split": split},
        )
        if found.first() is None:
            raise SequenceError(
                f"sequence set '{sequences.name}' has no probes to {purpose}: no concept of its "
                f"{split} articles has a probe vector, which objective=probe reads"
            )


def _value(connection: Connection, name: str, sequences: SequenceSet) -> str:
    key = {"sequence_set_id": sequences.sequence_set_id}
    return str(connection.execute(query("sequences", name), key).scalar_one())
