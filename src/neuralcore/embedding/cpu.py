"""How many threads this process may use: what the container and the scheduler allow, not what the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_threads(cgroup: Path = _CGROUP) -> int:
    """Threads that can run at once: the CPU affinity mask, further limited by a cgroup's CPU quota (v1 and v2)."""
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_v2(cgroup) or _quota_v1(cgroup)
    return max(1, min(n_threads, math.ceil(quota) if quota else n_threads))


def _quota_v2(cgroup: Path) -> float | None:
    """CPUs of the tightest of this process's group and its parents, see the kernel's cgroup-v2 document, cpu.max."""
    quotas = [quota for group in _groups_v2(cgroup) if (quota := _read_cpu_max(group / "cpu.max"))]
    return min(quotas, default=None)


def _groups_v2(cgroup: Path) -> list[Path]:
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    except OSError:
        own = ""
    # Inside a container the group is usually mounted as the root, and the path of /proc does not exist below it.
    group = cgroup / own
    return [group, *(parent for parent in group.parents if parent.is_relative_to(cgroup))]


def _read_cpu_max(path: Path) -> float | None:
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(cgroup: Path) -> float | None:
    try:
        quota = int((cgroup / "cpu/cpu.cfs_quota_us").read_text())
        period = int((cgroup / "cpu/cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None
