"""Stand-ins for the commands of SLURM that a job's script calls; they do what its manual pages and sources say.

`srun` answers SIGTERM and SIGHUP with a SIGKILL to its tasks (src/srun/libsrun/srun_job.c, `_srun_signal_mgr`), ends
with their highest exit code, 128 + N for one that signal N ended, and kills those that are left `--wait` seconds after
the first has ended, or at once after a failed one where `--kill-on-bad-exit` says so. `scancel --signal` signals tasks
and not the batch script. `squeue` tells the state that a file holds, `scontrol requeue` is noted in another.
"""

from __future__ import annotations

import sys
from pathlib import Path

SCONTROL = """
if [ "$1" = show ]; then printf '127.0.0.1\\nsecond\\n'; else echo "$@" >> {folder}/scontrol; fi
"""
SQUEUE = 'case "$*" in *--jobs=*) cat {folder}/state;; esac\n'
SCANCEL = '[ "$1" = --signal=TERM ] && kill -TERM $(cat {folder}/tasks)\n'
SRUN = """
import os, pathlib, signal, subprocess, sys, time

words, options = sys.argv[1:], {}
while words[0].startswith("--"):
    name, _, value = words.pop(0).partition("=")
    options[name] = value
size = int(os.environ["SLURM_NTASKS"])
numbers = {"SLURM_NTASKS": str(size), "SLURM_LOCALID": "0"}
tasks = [subprocess.Popen(words, env={**os.environ, **numbers, "SLURM_PROCID": str(rank)}) for rank in range(size)]

def kill(*_):
    for task in tasks:
        task.kill()

for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, kill)
noting = pathlib.Path("{folder}/tasks.new")
noting.write_text(" ".join(str(task.pid) for task in tasks))
noting.rename("{folder}/tasks")
first = None
while None in [task.poll() for task in tasks]:
    codes = [task.returncode for task in tasks if task.returncode is not None]
    if codes and first is None:
        first = time.monotonic()
    is_late = first is not None and time.monotonic() - first > float(options.get("--wait", "inf"))
    if is_late or (any(codes) and options.get("--kill-on-bad-exit") == "1"):
        kill()
    time.sleep(0.02)
sys.exit(max(128 - task.returncode if task.returncode < 0 else task.returncode for task in tasks))
"""


def program(folder: Path, name: str, text: str, shell: str = "/bin/bash") -> Path:
    """Write a program."""
    path = folder / name
    path.write_text(f"#!{shell}\n{text}\n")
    path.chmod(0o755)
    return path


def install(folder: Path) -> Path:
    """Write the commands, which keep what they note in the folder; give where they are."""
    place = folder / "bin"
    place.mkdir()
    (folder / "state").write_text("RUNNING\n")
    for name, text in {"scontrol": SCONTROL, "squeue": SQUEUE, "scancel": SCANCEL}.items():
        program(place, name, text.replace("{folder}", str(folder)))
    program(place, "srun", SRUN.replace("{folder}", str(folder)), sys.executable)
    return place
