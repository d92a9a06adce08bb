"""The other side of `environments.rewards.sandbox`: a script, run by `python -I -S`, that shuts itself in.

It reads what to do from a socket (its first argument is the descriptor), takes away what the program is not to have,
and runs the program in a child of its own. It imports the standard library only.

    parent -> {"code", "tests", "timeout_s", "memory_bytes", "output_bytes"}
    child  -> "ready"        limits hold, nothing of the program has run
    child  -> "loaded"       with tests: the program has run to its end
    parent -> {"tests", "word"}
    child  -> the word       all asserts have held
"""

import ctypes
import json
import math
import os
import resource
import signal
import struct
import sys
import time
from contextlib import suppress
from typing import Any

# linux/sched.h, sys/mount.h, linux/prctl.h, linux/mount.h, linux/capability.h
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x20000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 0x1000, 0x4000, 0x40000, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
SYS_MOUNT_SETATTR = 442  # on every architecture
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
CAPABILITIES = 0x20080522  # version 3 of the header
NOBODY = 65534
MAX_PROCESSES, MAX_OPEN_FILES = 32, 32
END_S = 1.0  # for what a program started to be gone
# Where sockets, pipes and terminals lie, by which a program could reach others, and what of it stays.
DEVICES = ("null", "zero", "full", "random", "urandom")
MEETING_PLACES = {"/tmp": (), "/var/tmp": (), "/run": (), "/var/run": (), "/dev": DEVICES}
FOLDER = b"size=64m,nr_inodes=4096"  # of the working folder, which is in memory


def main() -> None:
    """Shut in, then run the program in a child, and end as it ended."""
    control = int(sys.argv[1])
    os.umask(0o022)
    orders = receive(control)
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    isolated = libc is not None and isolate(libc)
    os.write(control, b"isolated\n" if isolated else b"limited\n")
    most_processes = MAX_PROCESSES
    if not isolated:  # where it is, the kernel counts by namespace, and ends all that is in it with the program
        most_processes += count_tasks()
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
        if libc is not None:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if libc is not None:
            drop_rights(libc)
        if not isolated:
            hide_signals()
        limit(orders, most_processes)
        os.write(control, b"ready\n")
        run(control, orders)
    else:
        status = 1
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if not isolated:
                end_descendants()
            os._exit(0 if status == 0 else 1)


def isolate(libc: ctypes.CDLL) -> bool:
    """Leave the network, the other processes and the files behind, where the kernel lets us. Say whether it did."""
    if os.geteuid() == 0 and (is_readable_by_all(os.__file__) or open_library(libc)):
        become_nobody(libc)  # root has no limit of processes, and may use devices
    uid, gid = os.geteuid(), os.getegid()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after that: a change of user forgets it
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC) != 0:
        return False
    maps = {"setgroups": "deny", "uid_map": f"{NOBODY} {uid} 1", "gid_map": f"{NOBODY} {gid} 1"}
    try:
        for name, text in maps.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError:  # a security module that lets us in and gives us no rights there
        return False
    return keep_files(libc) and uid != 0


def open_library(libc: ctypes.CDLL) -> bool:
    """Let everybody reach root's Python, in our view of the files alone, by hiding what lies beside its folders."""
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return False
    closed = [place for place in folders_above(os.__file__) if not os.stat(place).st_mode & 0o001]
    return bool(closed) and cover(libc, closed[-1], sys.base_prefix) and is_readable_by_all(os.__file__)


def is_readable_by_all(path: str) -> bool:
    """Say whether someone without rights could still import the standard library."""
    folders = folders_above(path)
    return bool(os.stat(path).st_mode & 0o004) and all(os.stat(folder).st_mode & 0o001 for folder in folders)


def folders_above(path: str) -> list[str]:
    """Give the folders on the way to a file, the nearest first."""
    found = [os.path.dirname(path)]
    while os.path.dirname(found[-1]) != found[-1]:
        found.append(os.path.dirname(found[-1]))
    return found


def cover(libc: ctypes.CDLL, place: str, *kept: str) -> bool:
    """Have an empty folder stand where this one does, with those of its folders and files that are kept."""
    here = os.getcwd()
    inside = [path for path in (*kept, here) if path.startswith(f"{place}/") and os.path.exists(path)]
    handles = {path: os.open(path, os.O_PATH) for path in inside}
    done = bool(libc.mount(b"tmpfs", place.encode(), b"tmpfs", 0, b"mode=755") == 0)
    for path, handle in handles.items():
        if done and os.path.isdir(f"/proc/self/fd/{handle}"):
            os.makedirs(path, exist_ok=True)
        elif done:
            os.close(os.open(path, os.O_CREAT, 0o666))
        source = f"/proc/self/fd/{handle}".encode()
        done = done and libc.mount(source, path.encode(), None, MS_BIND | MS_REC, None) == 0
        os.close(handle)
    if not done:
        libc.umount2(place.encode(), MNT_DETACH)
    os.chdir(here)
    return done


def become_nobody(libc: ctypes.CDLL) -> None:
    """Give root up for a user without rights, who owns the working folder."""
    os.chown(".", NOBODY, NOBODY)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # /proc/self is ours again


def keep_files(libc: ctypes.CDLL) -> bool:
    """Make all files read-only, and the working folder one that lives in memory and ends with the program.

    Read-only is nothing to sockets, pipes and devices: the folders where these usually lie are emptied.
    """
    here = os.getcwd().encode()
    read_only = struct.pack("QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    writable = struct.pack("QQQQ", 0, MOUNT_ATTR_RDONLY, 0, 0)
    done = (
        libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0
        and all(cover(libc, *place) for place in meeting_places())
        and libc.mount(b"tmpfs", here, b"tmpfs", 0, FOLDER) == 0
        and libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, read_only, 32) == 0
        and libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, here, 0, writable, 32) == 0
    )
    os.chdir(here)  # what is mounted there now
    return bool(done)


def meeting_places() -> list[list[str]]:
    """Give the folders to be emptied that are there, each once, with what is kept of it."""
    found = {os.path.realpath(place): kept for place, kept in MEETING_PLACES.items() if os.path.isdir(place)}
    return [[place, sys.base_prefix, *(f"{place}/{name}" for name in kept)] for place, kept in found.items()]


def drop_rights(libc: ctypes.CDLL) -> None:
    """Die with our parent, keep nothing that the namespaces gave us, get nothing by running other programs."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.capset(struct.pack("Ii", CAPABILITIES, 0), bytes(24))


def hide_signals() -> None:
    """Without a namespace of its own, one careless `os.kill(-1, 9)` would end everything of this user."""
    for name in ("kill", "killpg", "pidfd_open"):
        if hasattr(os, name):
            delattr(os, name)


def count_tasks() -> int:
    """Count the processes and threads of our user, as RLIMIT_NPROC does; those that /proc does not show are missed."""
    found, uid = 0, str(os.getuid())
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/status", errors="replace") as file:  # or it has just ended
                words = dict(line.split(":", 1) for line in file if line.startswith(("Uid:", "Threads:")))
                if words["Uid"].split()[0] == uid:
                    found += int(words["Threads"])
    return found


def end_descendants() -> None:
    """Kill all that a program left: it is ours, level by level, as we are the reaper of its orphans."""
    give_up_at = time.monotonic() + END_S
    with suppress(OSError):  # there are none left, or this kernel does not list them: then the group is killed
        while time.monotonic() < give_up_at:
            with open("/proc/thread-self/children") as file:
                children = file.read().split()
            for child in children:
                os.kill(int(child), signal.SIGKILL)
            os.waitpid(-1, 0)


def limit(orders: dict[str, Any], most_processes: int) -> None:
    for kind, most in (
        (resource.RLIMIT_CPU, math.ceil(orders["timeout_s"]) + 1),
        (resource.RLIMIT_AS, orders["memory_bytes"]),
        (resource.RLIMIT_FSIZE, orders["output_bytes"]),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_NPROC, most_processes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def run(control: int, orders: dict[str, Any]) -> None:
    """Run the program; with tests, ask for them when it has ended, and say the word when they have held."""
    sys.argv = ["answer.py"]
    if not orders["tests"]:
        os.close(control)
    space = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(compile(orders["code"], "answer.py", "exec"), space)
    if orders["tests"]:
        os.write(control, b"loaded\n")
        tests = receive(control)
        exec(compile(tests["tests"], "tests.py", "exec"), space)
        os.write(control, tests["word"].encode())


def receive(control: int) -> Any:
    """Read a message: four bytes of length, then JSON."""
    (length,) = struct.unpack("!I", exactly(control, 4))
    return json.loads(exactly(control, length))


def exactly(control: int, length: int) -> bytes:
    found = b""
    while len(found) < length:
        part = os.read(control, length - len(found))
        if not part:
            raise EOFError("the parent has gone")
        found += part
    return found


if __name__ == "__main__":
    main()
