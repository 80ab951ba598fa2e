"""Cores, quotas of containers, threads that wait, and the work of others."""

import os
import subprocess
import sys

import pytest
import torch

import acclimate
from acclimate import cpu
from acclimate.cpu import OtherWork, cpu_quota, is_busy, usable_cores


@pytest.fixture
def no_quota(monkeypatch):
    monkeypatch.setattr(cpu, "_quota_here", lambda: None)


@pytest.mark.usefixtures("no_quota")
def test_usable_cores_are_those_that_affinity_allows():
    allowed = os.sched_getaffinity(0)
    assert usable_cores() == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (0.5, 1), (1.5, 1), (2.0, 2), (64.0, 8)])
def test_usable_cores_are_no_more_than_the_quota_pays_for(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cpu, "_quota_here", lambda: quota)
    assert usable_cores() == cores


def process(folder, mounts, groups):
    """The folder of a process whose control groups are mounted below `folder`."""
    (folder / "self").mkdir(exist_ok=True)
    (folder / "self" / "mountinfo").write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda rw\n"
        + "".join(
            f"3{i} 22 0:3{i} {root} {top} rw shared:9 - {kind}\n"
            for i, (root, top, kind) in enumerate(mounts)
        )
    )
    (folder / "self" / "cgroup").write_text("".join(f"{line}\n" for line in groups))
    return folder / "self"


def limit(group, quota, period=100_000, *, version):
    group.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (group / "cpu.max").write_text(f"{'max' if quota is None else quota} {period}\n")
    else:
        (group / "cpu.cfs_quota_us").write_text(f"{-1 if quota is None else quota}\n")
        (group / "cpu.cfs_period_us").write_text(f"{period}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_quota_of_a_group_and_those_above_it_counts(tmp_path, version):
    top = tmp_path / "cgroup"
    limit(top, None, version=version)
    limit(top / "a", 350_000, version=version)
    limit(top / "a" / "b", None, version=version)
    limit(top / "a" / "b" / "c", 200_000, 50_000, version=version)
    limit(top / "other", 100_000, version=version)
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,cpu,cpuacct"
    group = "0::/a/b/c" if version == 2 else "4:cpu,cpuacct:/a/b/c"
    place = process(tmp_path, [("/", top, kind)], ["9:memory:/m", group])
    assert cpu_quota(place) == 3.5
    limit(top / "a", None, version=version)
    assert cpu_quota(place) == 4.0
    limit(top / "a" / "b" / "c", None, version=version)
    assert cpu_quota(place) is None


def test_in_a_container_the_mount_starts_at_its_own_group(tmp_path):
    limit(tmp_path / "cgroup", 150_000, version=1)
    mounts = [("/docker/1a", tmp_path / "cgroup", "cgroup cgroup rw,cpu")]
    assert cpu_quota(process(tmp_path, mounts, ["1:cpu:/docker/1a"])) == 1.5
    # With a namespace of its own, the group is outside of what the process sees.
    assert cpu_quota(process(tmp_path, mounts, ["1:cpu:/../x"])) == 1.5


def test_both_versions_may_be_mounted_and_only_one_knows_the_quota(tmp_path):
    limit(tmp_path / "one", 100_000, version=1)
    (tmp_path / "two").mkdir()
    mounts = [
        ("/", tmp_path / "sets", "cgroup cgroup rw,cpuset"),
        ("/", tmp_path / "one", "cgroup cgroup rw,cpu"),
        ("/", tmp_path / "two", "cgroup2 cgroup2 rw"),
    ]
    groups = ["5:cpuset:/", "1:cpu:/", "0::/"]
    assert cpu_quota(process(tmp_path, mounts, groups)) == 1.0


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cpu_quota(tmp_path / "nothing") is None
    assert cpu_quota(process(tmp_path, [], [])) is None


THREAD_VARIABLES = (*cpu.WAITING, "OMP_NUM_THREADS")


def told(code, **given):
    """The variables of a process after some code, as a dictionary."""
    env = {k: v for k, v in os.environ.items() if k not in THREAD_VARIABLES}
    names = repr(THREAD_VARIABLES)
    shown = f"\nprint({{n: os.environ[n] for n in {names} if n in os.environ}})"
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys, acclimate\n{code}{shown}"],
        capture_output=True, text=True, check=True, env={**env, **given},
    )  # fmt: skip
    return eval(done.stdout), done.stderr


def test_limited_threads_sleep_while_they_wait():
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
    assert told("acclimate.limit_threads()") == (waiting, "")


def test_a_quota_limits_the_number_of_threads():
    code = "from acclimate import cpu; cpu._quota_here = lambda: 1.5; cpu.core_count = lambda: 4; "
    shown, _ = told(code + "acclimate.limit_threads()")
    assert shown["OMP_NUM_THREADS"] == "1"
    assert (
        told(code + "acclimate.limit_threads()", OMP_NUM_THREADS="3")[0]["OMP_NUM_THREADS"] == "3"
    )


@pytest.mark.parametrize("name", cpu.WAITING)
def test_what_the_user_set_is_left_as_it_is(name):
    assert told("acclimate.limit_threads()", **{name: "7"})[0] == {name: "7"}


def test_importing_the_package_changes_no_thread_variable():
    assert told("import acclimate.cpu")[0] == {}


def test_after_pytorch_is_imported_it_is_too_late_to_let_threads_sleep():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(64)
        with pytest.warns(RuntimeWarning, match="before PyTorch is imported") as caught:
            acclimate.limit_threads()
        assert caught[0].filename == __file__
        assert torch.get_num_threads() == usable_cores()
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """A `/proc` with one other process, and a clock: both are set by the test."""
    monkeypatch.setattr(cpu, "PROC", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    now = {"clock": 0.0, "own": 0.0}
    monkeypatch.setattr(cpu.time, "monotonic", lambda: now["clock"])
    monkeypatch.setattr(cpu.os, "times", lambda: (now["own"], 0.0, 0.0, 0.0, 0.0))

    def at(clock, *ticks, own=0.0, child=None):
        now.update(clock=clock, own=own)
        lines = [f"cpu{i} {t} 0 0 999 7 0 0 0 0 0\n" for i, t in enumerate(ticks)]
        (tmp_path / "stat").write_text("cpu 9 9 9 9 9 9 9 9 0 0\n" + "".join(lines) + "ctxt 5\n")
        (tmp_path / "7").mkdir(exist_ok=True)
        parent, used = (1, 0) if child is None else (os.getpid(), child)
        (tmp_path / "7" / "stat").write_text(f"7 (a) b) S {parent} {'0 ' * 9}{used} 0 0 0 20 0\n")

    return at


def test_the_work_of_others_is_what_is_neither_idle_nor_ours(proc):
    proc(0, 100, 100, 100)
    others = OtherWork()
    proc(2, 300, 250, 100, own=1.5)
    assert others.cores() == pytest.approx(1.0)
    proc(4, 500, 250, 300, own=1.5)  # the third core is not for this process
    assert others.cores() == pytest.approx(1.0)


def test_child_processes_are_no_others(proc):
    proc(0, 0, 0)
    others = OtherWork()
    proc(2, 200, 0, child=190)
    assert others.cores() == pytest.approx(0.05)


def test_a_moment_is_too_short_to_tell(proc):
    proc(0, 0, 0)
    others = OtherWork()
    proc(0.1, 10, 10)
    assert others.cores() is None
    proc(1, 100, 100)
    assert others.cores() == pytest.approx(2.0)


def test_where_there_is_no_proc_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "PROC", tmp_path / "none")
    assert OtherWork().cores() is None


@pytest.mark.parametrize(
    ("taken", "quota", "busy"),
    [
        (0.0, None, False),
        (0.4, None, False),
        (0.6, None, True),
        (1.2, 1.0, False),
        (1.3, 1.0, True),
    ],
)
def test_a_machine_is_busy_if_too_little_is_left(monkeypatch, taken, quota, busy):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(cpu, "_quota_here", lambda: quota)
    assert is_busy(taken) == busy
