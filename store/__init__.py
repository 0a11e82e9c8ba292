"""The ledger's tables, how a database is opened, and how its schema is brought up to date: SQLite or PostgreSQL."""
