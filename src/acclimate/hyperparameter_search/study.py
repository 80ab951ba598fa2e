"""The trials of a search: chosen by Optuna, stored in SQLite, resumed after a kill."""

import math
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from acclimate.errors import ModelFileError
from acclimate.hyperparameter_search.space import Between, Range, Space

Outcome = Literal["done", "pruned", "diverged", "refused", "out of time"]

_RANDOM = 8
"""Random trials before the sampler starts, the two given ones included. With four, two of them
random, it never tried more than one choice of `trainable`; Optuna's 10 are half of a search."""

_BEFORE_PRUNING = 4
"""Complete trials before others are pruned by their median."""


@dataclass(frozen=True)
class FinishedTrial:
    """A finished trial.

    Attributes:
        number: From 0, in the order in which trials started.
        values: Value of each searched setting.
        outcome: Whether it was trained to the end, and if not, why.
        val_accuracy: Accuracy of the best weights, in [0, 1]; NaN if there are none.
        val_loss: Loss of the same weights; NaN if it is not known.
        epochs: Number of epochs trained.
        seconds: Time it took, before and after a kill.
        digest: Digest of its classifier; empty if there is none.
        note: What went wrong, a sentence; empty if nothing did.
    """

    number: int
    values: Mapping[str, Any]
    outcome: Outcome
    val_accuracy: float = math.nan
    val_loss: float = math.nan
    epochs: int = 0
    seconds: float = 0.0
    digest: str = ""
    note: str = ""

    @property
    def rank(self) -> tuple[float, float, float]:
        """Sorts trials, best last: complete ones first, then by val accuracy, then by val loss."""
        accuracy = -1.0 if math.isnan(self.val_accuracy) else self.val_accuracy
        loss = math.inf if math.isnan(self.val_loss) else self.val_loss
        return float(self.outcome == "done"), accuracy, -loss


class RunningTrial:
    """A running trial.

    Args:
        trial: The trial in Optuna.
        values: Value of each searched setting.

    Attributes:
        trial: The trial in Optuna.
        number: From 0.
        values: Value of each searched setting.
        elapsed: Seconds that it took before it was killed.
    """

    def __init__(self, trial: Trial, values: Mapping[str, Any]) -> None:
        self.trial = trial
        self.number, self.values = trial.number, values
        self.elapsed = float(trial.user_attrs.get("seconds", 0.0))

    def report(self, epoch: int, accuracy: float, seconds: float) -> bool:
        """Reports an epoch.

        Args:
            epoch: From 1: the start is the same for all trials.
            accuracy: Accuracy on val.
            seconds: Time since this trial started, resumed time included.

        Returns:
            Whether to prune the trial: it is below the median of the finished ones.
        """
        with _quiet():  # an epoch that is repeated after a kill was reported before
            self.trial.report(accuracy, epoch)
            self.trial.set_user_attr("seconds", seconds)
            return self.trial.should_prune()


class Study:
    """The trials of one phase of a search, in a database that outlives the process.

    Sampler and pruner depend only on the earlier trials and on the trial's number, so a search
    that was killed and resumed ends with the same result.

    Args:
        storage: Database of the search.
        name: Name of the phase.
        seed: (trial number) to the sampler's seed.
        patience: Epochs before a trial may be pruned.
    """

    def __init__(
        self,
        storage: optuna.storages.RDBStorage,
        name: str,
        seed: Callable[[int], int],
        *,
        patience: int = 1,
    ) -> None:
        self._seed, self._storage = seed, storage
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(_BEFORE_PRUNING, n_warmup_steps=patience),
        )

    @property
    def finished(self) -> list[FinishedTrial]:
        """The finished trials, in order."""
        return [
            FinishedTrial(**t.user_attrs["ended"]) for t in self._trials() if t.state.is_finished()
        ]

    @property
    def elapsed(self) -> float:
        """Seconds that the whole search took up to its last finished trial."""
        return float(self._study.user_attrs.get("seconds", 0.0))

    def save_elapsed(self, seconds: float) -> None:
        """Stores how long the whole search took so far."""
        self._study.set_user_attr("seconds", seconds)

    @property
    def next_number(self) -> int:
        """Number of the trial that `start` returns."""
        return len(self.finished)

    def start(self, space: Space, first: Mapping[str, Any] | None = None) -> RunningTrial:
        """Starts the next trial, or resumes the one that was running when the process was killed.

        Args:
            space: The search space.
            first: Values in place of the sampler's; they may lie outside of their range.

        Returns:
            The trial.
        """
        begun = [t for t in self._trials() if not t.state.is_finished()]
        self._study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=_RANDOM, seed=self._seed(self.next_number) % 2**32
        )
        known = {n: v for n, v in (first or {}).items() if space.ranges[n].holds(v)}
        outside = {n: v for n, v in (first or {}).items() if n not in known}
        with _quiet():
            if first and not begun:
                self._study.enqueue_trial(known)
            if begun and begun[0].state == TrialState.RUNNING:
                # Under its own number: Optuna would leave it running.
                trial = Trial(self._study, self._id_of(begun[0]))
            else:
                trial = self._study.ask()
            values = {
                name: outside[name] if name in outside else _suggested(trial, name, kind)
                for name, kind in space.ranges.items()
            }
        return RunningTrial(trial, values)

    def finish(self, trial: RunningTrial, finished: FinishedTrial) -> None:
        """Stores how a trial ended.

        Args:
            trial: The running trial.
            finished: How it ended. A trial that was not trained to the end is reported as pruned,
                with the accuracy that it reached: Optuna learns nothing from failed trials.
        """
        done = finished.outcome == "done"
        trial.trial.set_user_attr("ended", asdict(finished))
        self._study.tell(
            trial.trial,
            finished.val_accuracy if done else None,
            TrialState.COMPLETE if done else TrialState.PRUNED,
        )

    def changed_input(self, made_of: Mapping[str, str]) -> str | None:
        """Stores the digests of all inputs of the trials the first time, and compares them later.

        Args:
            made_of: Name and digest of each input.

        Returns:
            Name of the first input that differs; None if all are the same.
        """
        before = self._study.user_attrs.get("made_of")
        if before is None:
            self._study.set_user_attr("made_of", dict(made_of))
            return None
        return next((n for n, digest in made_of.items() if before.get(n) != digest), None)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _id_of(self, trial: FrozenTrial) -> int:
        """Id of a trial in the database, which numbers the trials of all phases."""
        study = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)


def _suggested(trial: Trial, name: str, kind: Range) -> Any:  # noqa: ANN401 - of any setting
    if isinstance(kind, Between):
        return trial.suggest_float(name, kind.low, kind.high, log=kind.log)
    return trial.suggest_categorical(name, kind.choices)


@contextmanager
def open_storage(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    """Opens the database of a search.

    Args:
        file: Path of the database; created if it does not exist.

    Yields:
        optuna.storages.RDBStorage: Closed at the end.

    Raises:
        ModelFileError: The file is not such a database, or is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with _quiet():
            # A creator, since some characters of a path have a meaning of their own in a URL.
            storage = optuna.storages.RDBStorage(
                "sqlite://",
                engine_kwargs={"creator": lambda: sqlite3.connect(file), "poolclass": NullPool},
            )
    except (SQLAlchemyError, RuntimeError) as error:
        raise ModelFileError(
            "not a readable database of search trials.",
            where=file,
            hint="Move the file away to start a new search.",
        ) from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences Optuna's warnings about given values and repeated epochs, which are intended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
