"""The `evergreen` command. One file a group of verbs; errors end in `problems`, in words, with an exit code."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit."""
    from orchestrator.cli.app import app

    app(prog_name="evergreen")
