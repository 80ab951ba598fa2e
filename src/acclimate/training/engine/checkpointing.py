"""When to write a checkpoint: every minute, and when the training is interrupted."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from acclimate.training.engine.checkpoint import TrainState, save_state

EVERY_S = 60.0
"""A minute of work is soon repeated; the checkpoint of a small network takes 0.1 s to write."""

_MOST_TIME = 0.05
"""Largest fraction of the time for writing: large networks on slow disks are saved less often."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Checkpointer:
    """Writes checkpoints during a training.

    The first Ctrl-C or SIGTERM lets the current step end, so that no half-updated weights are
    saved; a second one stops at once.

    Args:
        workspace: Folder; None writes nothing.
        leads: Whether this process writes the checkpoints. The others only wait for it, because a
            Ctrl-C reaches all processes, and the leader needs them to end the step.
    """

    def __init__(self, workspace: Path | None, *, leads: bool = True) -> None:
        self.workspace, self.leads = workspace, leads
        self._last, self._cost = time.monotonic(), 0.0
        self._signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Installs signal handlers, which is possible in the main thread only."""
        if self.workspace and threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._on_signal) for s in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restores the signal handlers."""
        self._restore_handlers()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    @property
    def due(self) -> bool:
        """Whether to save now; called between steps."""
        if self.workspace is None or not self.leads:
            return False
        wait = max(EVERY_S, self._cost / _MOST_TIME)
        return self._signal is not None or time.monotonic() - self._last >= wait

    def save(self, state: TrainState) -> None:
        """Writes the checkpoint."""
        assert self.workspace is not None
        began = time.monotonic()
        save_state(state, self.workspace)
        self._last = time.monotonic()
        self._cost = self._last - began

    def raise_pending_signal(self) -> None:
        """Raises a signal that arrived for the handler it was meant for."""
        if self._signal is not None:
            pending, self._signal = self._signal, None
            signal.raise_signal(pending)
