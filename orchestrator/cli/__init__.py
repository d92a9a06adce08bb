"""The `evergreen` command. One file a group of verbs; errors end in `problems`, in words, with an exit code."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit."""
    import sys
    import traceback

    from orchestrator.cli.app import app
    from store.secrets import without_logins

    try:
        app(prog_name="evergreen")
    except Exception:  # ours: a traceback, without the logins that it may quote
        sys.stderr.write(without_logins(traceback.format_exc()))
        sys.exit(1)
