"""Readers: from a source of text to a stream of articles; `registry` has them by name."""
