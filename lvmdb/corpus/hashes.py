"""What identifies a concept, and what tells whether an article has changed."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence

import numpy as np

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://lvmdb.dev/cpe_entry")
"""Namespace of concept ids; changing it would give every concept another id."""


def cpe_id(dataset_source: str, source_key: str, seq: int, text: str) -> uuid.UUID:
    """The id of a concept: UUIDv5 (RFC 9562) of its dataset, article key, place and text."""
    return uuid.uuid5(NAMESPACE, f"{dataset_source}\x1f{source_key}\x1f{seq}\x1f{text}")


def concept_ids(
    dataset_source: str, source_key: str, texts: Sequence[str], first: int = 0
) -> list[bytes]:
    """The ids of an article's concepts from place `first` on: the bytes of `cpe_id` of each."""
    space = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
    space.update(f"{dataset_source}\x1f{source_key}\x1f".encode())
    ids = []
    for seq, text in enumerate(texts, start=first):
        digest = space.copy()
        digest.update(f"{seq}\x1f{text}".encode())
        ids.append(digest.digest()[:16])
    fields = np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, 16).copy()
    fields[:, 6] = fields[:, 6] & 0x0F | 0x50  # version 5
    fields[:, 8] = fields[:, 8] & 0x3F | 0x80  # the variant of RFC 9562
    made: list[bytes] = fields.view("V16")[:, 0].tolist()
    return made


def content_hash(*parts: bytes | memoryview | str) -> bytes:
    """SHA-256 of parts that cannot run into each other."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()
