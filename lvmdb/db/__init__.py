"""The database: server, schema, migrations, named queries, bulk copy, runs and checkpoints."""
