"""Nearest concepts: exact, and by pgvector's indexes."""
