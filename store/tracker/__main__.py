"""`python -m store.tracker RUN`: the tracker of one run. What it needs to know comes as JSON on its standard input."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from datetime import datetime

from store.errors import StoreError
from store.secrets import without_logins
from store.tracker.daemon import OUTLET, TrackerJob, follow

NICE = 15  # whatever the trainer can use is the trainer's


def main() -> int:
    """Follow the run; say in a line each what happened. 0 when everything was sent, 1 when not."""
    os.nice(NICE)
    try:
        follow(TrackerJob.from_json(sys.stdin.read()), say)
    except StoreError as gave_up:
        say(f"gave up: {gave_up}")
        return 1
    except Exception:  # a defect: its traceback is for the log, without the logins that it may quote
        say(traceback.format_exc())
        return 1
    return 0


def say(text: str) -> None:
    """Write a line with the time."""
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {without_logins(text)}", flush=True)


if __name__ == "__main__":
    code = main()
    if any(thread.name == OUTLET for thread in threading.enumerate()):  # their clients would be waited for
        os._exit(code)
    sys.exit(code)
