"""A busy machine is told once, and threads that wait sleep from the start of the command."""

import pytest

from acclimate.cli import busy
from acclimate.cli.busy import BusyNotice
from kit import Recorder


class Others:
    """What other processes take, look for look."""

    def __init__(self, *taken):
        self.taken, self.looks = list(taken), 0

    def cores(self):
        self.looks += 1
        return self.taken.pop(0)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr("acclimate.cpu.core_count", lambda: 2)
    monkeypatch.setattr("acclimate.cpu.usable_cores", lambda: 2)
    monkeypatch.setattr(busy, "core_count", lambda: 2)
    now = [0.0]
    monkeypatch.setattr(busy.time, "monotonic", lambda: now[0])
    return now


TOLD = (
    "The machine is busy: other processes take 1.3 of 2 cores. Everything takes longer, and "
    "measured latencies are not reliable."
)


def test_a_busy_machine_is_told_once_as_soon_as_it_is_known(clock):
    seen, others = Recorder(), Others(0.1, 1.3)
    shown = BusyNotice(seen, others)
    shown.info("first")
    assert others.looks == 0
    clock[0] = 2
    shown.info("second")
    clock[0] = 6
    with shown.task("features", 100) as task:
        task.advance(5)
        assert seen.lines == ["first", "second"]
        clock[0] = 8
        task.advance(7)
        task.note("loss 1")
        assert seen.lines[2:] == [TOLD]
        clock[0] = 100
        task.advance()
    assert (seen.tasks[0].name, seen.tasks[0].done, seen.tasks[0].notes) == (
        "features",
        13,
        ["loss 1"],
    )
    assert (seen.lines[2:], others.looks) == ([TOLD], 2)


def test_nothing_is_said_on_a_quiet_machine_or_where_nothing_is_known(clock):
    seen, others = Recorder(), Others(0.1, None, 0.4)
    shown = BusyNotice(seen, others)
    for clock[0] in (2, 4, 8, 9, 20):
        shown.info("line")
    assert others.looks == 3
    assert set(seen.lines) == {"line"}
