"""When a checkpoint is due: every minute, and when somebody asks the training to stop."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from acclimate.training.engine.checkpoint import TrainState, save_state

EVERY_S = 60.0
"""A minute's work is soon done again; writing a small network's checkpoint takes 0.1 s."""

_SHARE = 0.05
"""Most of the time that writing may take: a large network on a slow disk is saved less often."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Checkpointer:
    """Keeps checkpoints while a training is under way.

    A first Ctrl-C or SIGTERM lets the step under way end, since weights that are half updated are
    nobody's; a second one stops at once.

    Args:
        workspace: Where; None keeps nothing.
        leads: Whether this is the process that keeps checkpoints. The others only wait for it: a
            Ctrl-C reaches all, and the leader needs them for the step that it ends.
    """

    def __init__(self, workspace: Path | None, *, leads: bool = True) -> None:
        self.workspace, self.leads = workspace, leads
        self._last, self._cost = time.monotonic(), 0.0
        self._asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Listens to signals, where that is possible."""
        if self.workspace and threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._hear) for s in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves signals to whom they belonged."""
        self._give_back()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._asked = number
        self._give_back()

    def _give_back(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    @property
    def due(self) -> bool:
        """Whether to save now; only asked between steps."""
        if self.workspace is None or not self.leads:
            return False
        wait = max(EVERY_S, self._cost / _SHARE)
        return self._asked is not None or time.monotonic() - self._last >= wait

    def save(self, state: TrainState) -> None:
        """Writes the checkpoint."""
        assert self.workspace is not None
        began = time.monotonic()
        save_state(state, self.workspace)
        self._last = time.monotonic()
        self._cost = self._last - began

    def leave_if_asked(self) -> None:
        """Hands a signal that came on to whom it was meant for."""
        if self._asked is not None:
            asked, self._asked = self._asked, None
            signal.raise_signal(asked)
