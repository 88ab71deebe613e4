"""Threads are those the process may use. Groups are written to a folder as the kernel shows them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuralcore.embedding.cpu import available_threads

N_CPUS = 16
linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity mask")


@pytest.fixture
def own_group(monkeypatch):
    """Sixteen CPUs in the affinity mask, and a /proc/self/cgroup that says what a test wants."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(N_CPUS)), raising=False)
    read_text = Path.read_text

    def say(content: str | None) -> None:
        def read(path: Path, *args, **kwargs) -> str:
            if path != Path("/proc/self/cgroup"):
                return read_text(path, *args, **kwargs)
            if content is None:
                raise FileNotFoundError(path)
            return content

        monkeypatch.setattr(Path, "read_text", read)

    say("0::/\n")
    return say


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def write_v1(root: Path, quota: str, period: str) -> None:
    write(root / "cpu/cpu.cfs_quota_us", quota)
    write(root / "cpu/cpu.cfs_period_us", period)


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("max 100000\n", N_CPUS),
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("50000 100000\n", 1),
        ("1000 100000\n", 1),
        ("400000 50000\n", 8),
        ("6400000 100000\n", N_CPUS),
        ("", N_CPUS),
        ("nonsense\n", N_CPUS),
        ("a b\n", N_CPUS),
    ],
)
def test_quota_of_cgroup_v2_is_rounded_up(cpu_max, expected, own_group, tmp_path):
    write(tmp_path / "cpu.max", cpu_max)
    assert available_threads(tmp_path) == expected


@pytest.mark.parametrize(
    ("quota", "period", "expected"),
    [
        ("-1\n", "100000\n", N_CPUS),
        ("150000\n", "100000\n", 2),
        ("10000\n", "100000\n", 1),
        ("9900000\n", "100000\n", N_CPUS),
        ("0\n", "100000\n", N_CPUS),
        ("100000\n", "0\n", N_CPUS),
        ("many\n", "100000\n", N_CPUS),
    ],
)
def test_quota_of_cgroup_v1_is_rounded_up(quota, period, expected, own_group, tmp_path):
    write_v1(tmp_path, quota, period)
    assert available_threads(tmp_path) == expected


def test_without_groups_the_affinity_mask_decides(own_group, tmp_path):
    assert available_threads(tmp_path) == N_CPUS
    assert available_threads(tmp_path / "missing") == N_CPUS


def test_quota_of_the_own_nested_group_counts(own_group, tmp_path):
    own_group("0::/user.slice/job.scope\n")
    write(tmp_path / "user.slice/job.scope/cpu.max", "300000 100000\n")
    write(tmp_path / "other.slice/cpu.max", "100000 100000\n")
    assert available_threads(tmp_path) == 3


@pytest.mark.parametrize("tightest", ["cpu.max", "a/cpu.max", "a/b/cpu.max"])
def test_tightest_group_on_the_way_up_decides(tightest, own_group, tmp_path):
    own_group("0::/a/b\n")
    for path in ("cpu.max", "a/cpu.max", "a/b/cpu.max"):
        write(tmp_path / path, "200000 100000\n" if path == tightest else "900000 100000\n")
    assert available_threads(tmp_path) == 2


def test_container_sees_its_own_group_as_the_root(own_group, tmp_path):
    own_group("0::/kubepods/pod1/container1\n")
    write(tmp_path / "cpu.max", "400000 100000\n")
    assert available_threads(tmp_path) == 4


def test_both_versions_mounted_with_the_quota_in_v1(own_group, tmp_path):
    own_group("9:name=systemd:/\n1:cpu:/\n0::/\n")
    write(tmp_path / "cpu.max", "max 100000\n")
    write_v1(tmp_path, "500000", "100000")
    assert available_threads(tmp_path) == 5


@pytest.mark.parametrize("content", [None, "", "4:memory:/x\n1:cpu:/x\n"])
def test_unreadable_or_old_proc_file_is_no_obstacle(content, own_group, tmp_path):
    own_group(content)
    write(tmp_path / "cpu.max", "200000 100000\n")
    assert available_threads(tmp_path) == 2


def test_without_an_affinity_mask_the_machines_cores_count(own_group, monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_threads(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_threads(tmp_path) == 1


@linux
@pytest.mark.parametrize("n_cpus", [1, 2])
def test_affinity_mask_of_a_process_limits_it(n_cpus, tmp_path):
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < n_cpus:
        pytest.skip(f"needs {n_cpus} CPUs")
    code = (
        f"import os, pathlib; os.sched_setaffinity(0, {allowed[:n_cpus]}); "
        "from neuralcore.embedding.cpu import available_threads; "
        f"print(available_threads(pathlib.Path({str(tmp_path)!r})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(result.stdout) == n_cpus


def test_this_machine_has_at_least_one():
    assert 1 <= available_threads() <= (os.cpu_count() or 1)
