"""PostgreSQL and Valkey: engine, tables, queries, migrations and the embedded servers."""
