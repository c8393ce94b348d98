"""Decoding: from vectors back to words, by the nearest concept or by vec2text; generation."""
