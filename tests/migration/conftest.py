"""What the tests of migrations share: an empty database, and a schema written down as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from lvmdb.db.engine import Database

# One line for each thing that a migration makes, as PostgreSQL itself describes it.
SCHEMA = """
SELECT format('column %s.%s %s %s default %s generated %s storage %s: %s', c.relname, a.attname,
              format_type(a.atttypid, a.atttypmod), a.attnotnull,
              pg_get_expr(d.adbin, d.adrelid), a.attgenerated, a.attstorage,
              col_description(c.oid, a.attnum))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0
  AND NOT a.attisdropped
UNION ALL
SELECT format('relation %s %s: %s', c.relname, c.reloptions, obj_description(c.oid, 'pg_class'))
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')
UNION ALL
SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT format('index %s', pg_get_indexdef(i.indexrelid))
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT format('view %s %s', c.relname, pg_get_viewdef(c.oid))
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v'
UNION ALL
SELECT format('trigger %s', pg_get_triggerdef(t.oid)) FROM pg_trigger t WHERE NOT t.tgisinternal
UNION ALL
SELECT format('function %s: %s', pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc'))
FROM pg_proc p
WHERE p.pronamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
"""


@pytest.fixture
def empty(
    fresh_database: Callable[..., AbstractContextManager[Database]],
) -> Iterator[Database]:
    """A database without a table."""
    with fresh_database(migrated=False) as database:
        yield database


@pytest.fixture(scope="session")
def schema_of() -> Callable[[Database], list[str]]:
    """`schema_of(db)`: everything that migrations make, one line each, sorted."""

    def describe(database: Database) -> list[str]:
        with database.raw_connection() as connection:
            return sorted(line for (line,) in connection.execute(SCHEMA).fetchall())

    return describe
