import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAINER = """
import sys
from environments import EnvironmentSource, Job, Scorer, ScoringOptions

if __name__ == "__main__":
    source = EnvironmentSource("fake", "tests.environments.fakes:create", {"character": "obedient"})
    fake = source.create()
    scorer = Scorer([source], {"fake": fake}, ScoringOptions(workers=2, timeout_s=600))
    print(scorer.turns([Job(fake.task("easy", 0), ("hopeless",))])[0].score.value, flush=True)
    pool = scorer._pool._started()
    print(*pool._pool_manager.worker_manager.workers, flush=True)
    scorer.turns([Job(fake.task("easy", i), (sys.argv[1],)) for i in range(2)])
"""


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("stuck", ["hanging", "stuck_in_c"])
def test_a_killed_trainer_leaves_no_worker(tmp_path, stuck):
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    root = Path(__file__).parents[3]
    trainer = subprocess.Popen(
        [sys.executable, str(script), stuck],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert trainer.stdout is not None
    assert trainer.stdout.readline().strip() == "0.0"
    workers = [int(pid) for pid in trainer.stdout.readline().split()]
    time.sleep(0.5)  # both workers are stuck now
    assert len(workers) == 2
    assert all(running(pid) for pid in workers)
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    deadline = time.monotonic() + 5
    while any(running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(running(pid) for pid in workers)
