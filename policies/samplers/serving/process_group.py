"""The leader of a server's process group: runs the server, and leaves none of its processes behind.

    python -P process_group.py PARENT COMMAND...

Ends when the server does, when PARENT is no longer its parent (it was killed, and could end nothing itself), or after
a SIGTERM to the group once the server has ended by it. What is left of the group then is killed, itself included.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

LOOK_S = 0.2
END_S = 10.0  # for a server to end by itself


def guard(parent: int, command: Sequence[str]) -> NoReturn:
    """Run the command until it ends or the parent does."""
    # SIGTERM goes to the whole group. A handler and not SIG_IGN, which the server would inherit.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    server = subprocess.Popen(command)
    while server.poll() is None and os.getppid() == parent:
        time.sleep(LOOK_S)
    os.killpg(0, signal.SIGTERM)
    give_up_at = time.monotonic() + END_S
    while server.poll() is None and time.monotonic() < give_up_at:
        time.sleep(LOOK_S)
    os.killpg(0, signal.SIGKILL)
    raise SystemExit(1)  # never reached: this process is of the group


if __name__ == "__main__":
    guard(int(sys.argv[1]), sys.argv[2:])
