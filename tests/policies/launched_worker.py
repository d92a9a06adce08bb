"""One of two processes of a launcher: rank 0 keeps silent for some seconds, has a heartbeat, or works with rank 1.

    python -m tests.policies.launched_worker beats|is_silent|works

Limits are a hundredth of what they are in a run. Rank 1 ends with 0 where it heard "end", and else with what it says.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta

from policies import ranks
from policies.errors import RankLost
from policies.launchers import LaunchedProcess

ranks.HEARD, ranks.BEAT_S = timedelta(seconds=2), 0.2
SILENCE_S = 5.0


def main(how: str) -> None:
    process = LaunchedProcess.from_environment(os.environ)
    assert process is not None
    work = ranks.Ranks.join_launched(process)
    if work.leads:
        if how in ("beats", "works"):
            with work.heartbeat():
                if how == "works":
                    work.send("update")
                    with work.together():
                        time.sleep(SILENCE_S)
                time.sleep(SILENCE_S)
                work.send("end")
        else:
            time.sleep(SILENCE_S)
        return
    start = time.monotonic()
    try:
        with work.together():
            if (told := work.receive()[0]) == "update":
                time.sleep(SILENCE_S)
                told = work.receive()[0]
            assert told == "end"
    except RankLost as error:
        waited = time.monotonic() - start
        sys.exit(f"{error} after {'less' if waited < SILENCE_S else 'more'} than the silence")


if __name__ == "__main__":
    main(sys.argv[1])
