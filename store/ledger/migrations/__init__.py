"""Alembic migrations of the ledger, one for each release that changes the schema."""
