"""Chunkers: from a text to concepts; `lvmdb.corpus.chunker` has them by name."""
