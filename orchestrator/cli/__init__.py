"""The `evergreen` command. One file a group of verbs; errors end in `problems`, in words, with an exit code."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit."""
    import traceback

    from orchestrator.cli.streams import cut_short, outlast
    from orchestrator.os_signals import Interrupted, end_by_signals, say
    from store.secrets import without_logins

    end_by_signals()
    outlast()
    try:
        from orchestrator.cli.app import app

        app(prog_name="evergreen")
    except Interrupted as signal:
        say(f"error: ended by {signal}")
        sys.exit(signal.exit_code)
    except SystemExit as end:
        if end.code in (0, None) and (why := cut_short()) is not None:
            say(f"error: {why}")
            sys.exit(2)
        raise
    except Exception:  # ours: a traceback, without the logins that it may quote
        say(without_logins(traceback.format_exc()))
        sys.exit(1)
