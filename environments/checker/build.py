"""Check: the environment can be built, quickly and cheaply."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from environments.checker.context import CheckContext
from environments.checker.findings import told

SLOW_S = 10.0
HEAVY_MIB = 1024.0


def check_build(bench: CheckContext) -> None:
    """Build it, and say what that took."""
    bench.at("the environment")
    before_mib, begun_at = _resident_mib(), time.monotonic()
    try:
        bench.environment = bench.source.create()
    except BaseException as error:  # foreign code may raise anything
        bench.find("build", f"it cannot be built: {told(error)}")
        return
    bench.is_built = True
    seconds, mib = time.monotonic() - begun_at, _resident_mib() - before_mib
    bench.facts |= {"build_s": seconds, "build_mib": mib}
    if seconds > SLOW_S:
        bench.find("build-slow", f"building takes {seconds:.0f} s")
    if mib > HEAVY_MIB:
        bench.find("build-heavy", f"building takes {mib / 1024:.1f} GiB")


def _resident_mib() -> float:
    """Resident memory now, MiB; the most so far where the system does not say."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
