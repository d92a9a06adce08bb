"""Runs as tidy tables, for people who look at them elsewhere: Parquet and CSV with a data dictionary.

One table is one `Table` in `tables.py`: what it means, its columns, and where the ledger has it. Both formats hold
the same; a run of any length takes the memory of a few thousand rows.
"""

from store.export.exporter import new_export as new_export
