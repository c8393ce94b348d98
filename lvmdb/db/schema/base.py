"""Metadata with one naming convention, and the column types used throughout."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    MetaData,
    PrimaryKeyConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def identity(name: str) -> Column[int]:
    """A surrogate key that the database hands out."""
    return Column(name, BigInteger, Identity(always=True), primary_key=True)


def created_at(name: str = "created_at") -> Column[object]:
    """When the row was made."""
    return Column(name, DateTime(timezone=True), nullable=False, server_default=text("now()"))


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """The column holds one of these words."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def named(column: str = "name") -> CheckConstraint:
    """The column is a name as users type it on a command line."""
    return CheckConstraint(f"{column} ~ '^[a-z0-9_-]+$'", name=column)


def primary_key(*columns: str) -> PrimaryKeyConstraint:
    """A primary key over several columns."""
    return PrimaryKeyConstraint(*columns)
