"""The tracker: the record of the runs in MLflow and beside it, written from the ledger by a process of its own.

    daemon    the process: look at the ledger, catch up, wait; until the run is over and everything is sent
    sync      one pass: what a durable checkpoint covers and the record lacks, page by page, then the cursor
    pages     from ledger rows to values under MLflow's names       names     which ones
    record    the only file that talks to MLflow                    artifacts the files beside the values
    outlets   MLflow and what is beside it, as the process sees them     sinks   what is beside it
    tensorboard_files, wandb_runs  a place each
    saved_view  what MLflow opens on: columns, charts, addresses

MLflow takes seconds to import, so only functions import it, and only the tracker's process and `evergreen ui`
call them. The trainer never does: it starts the process and goes on.
"""
