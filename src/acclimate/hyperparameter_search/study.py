"""The trials of a search: chosen by Optuna, kept in SQLite, gone on with after a kill."""

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
"""Trials before the sampler learns from them, the two given ones included. After four, two of them
random, it never tried more than one choice of `trainable`; Optuna's 10 are half of a search."""

_JUDGES = 4
"""Whole trainings before others are judged by their median."""


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that has ended.

    Attributes:
        number: From 0, in the order of their beginning.
        values: Setting to what was tried.
        outcome: Whether it was trained to the end, and if not, why.
        val_accuracy: In [0, 1], of the weights that were kept; NaN where there are none.
        val_loss: Of the same weights; NaN where it is not known.
        epochs: That were trained.
        seconds: That it took, before and after a kill.
        digest: Of its classifier; empty where nothing is kept of it.
        note: What went wrong, a sentence; empty where nothing did.
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
        """The higher, the better: whole trainings first, then val accuracy, then val loss."""
        accuracy = -1.0 if math.isnan(self.val_accuracy) else self.val_accuracy
        loss = math.inf if math.isnan(self.val_loss) else self.val_loss
        return float(self.outcome == "done"), accuracy, -loss


class RunningTrial:
    """A trial under way.

    Args:
        trial: Optuna's.
        values: Setting to what is tried.

    Attributes:
        trial: Optuna's.
        number: From 0.
        values: Setting to what is tried.
        spent: Seconds that it took before it was killed.
    """

    def __init__(self, trial: Trial, values: Mapping[str, Any]) -> None:
        self.trial = trial
        self.number, self.values = trial.number, values
        self.elapsed = float(trial.user_attrs.get("seconds", 0.0))

    def report(self, epoch: int, accuracy: float, seconds: float) -> bool:
        """Notes an epoch.

        Args:
            epoch: From 1: the start is the same for all, and would hide what came of it.
            accuracy: On val.
            seconds: Since this trial began, resumed time included.

        Returns:
            Whether the trial is hopeless: so far below the median of those that ended.
        """
        with _quiet():  # an epoch that was done again after a kill is reported already
            self.trial.report(accuracy, epoch)
            self.trial.set_user_attr("seconds", seconds)
            return self.trial.should_prune()


class Study:
    """The trials of one phase of a search, in a database that outlives the process.

    Sampler and pruner depend on the trials before and on the trial's number alone: a search that
    was killed goes on to what it would have come to.

    Args:
        storage: Of the search.
        name: Of the phase.
        seed: (number) to the sampler's seed for that trial.
        patience: Epochs before any trial is judged.
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
            pruner=optuna.pruners.MedianPruner(_JUDGES, n_warmup_steps=patience),
        )

    @property
    def finished(self) -> list[FinishedTrial]:
        """All that have ended, in order."""
        return [
            FinishedTrial(**t.user_attrs["ended"]) for t in self._trials() if t.state.is_finished()
        ]

    @property
    def elapsed(self) -> float:
        """Seconds that all of the search took up to its last trial that ended."""
        return float(self._study.user_attrs.get("seconds", 0.0))

    def save_elapsed(self, seconds: float) -> None:
        """Writes down how long all of the search took so far."""
        self._study.set_user_attr("seconds", seconds)

    @property
    def next_number(self) -> int:
        """Of the trial that `begin` gives."""
        return len(self.finished)

    def start(self, space: Space, first: Mapping[str, Any] | None = None) -> RunningTrial:
        """The trial that a kill left under way, or the next one.

        Args:
            space: What is tried.
            first: Values in place of the sampler's; those outside of their range are tried all
                the same.

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
                # Under its own number: Optuna would leave it under way for ever.
                trial = Trial(self._study, self._id_of(begun[0]))
            else:
                trial = self._study.ask()
            values = {
                name: outside[name] if name in outside else _suggested(trial, name, kind)
                for name, kind in space.ranges.items()
            }
        return RunningTrial(trial, values)

    def finish(self, trial: RunningTrial, finished: FinishedTrial) -> None:
        """Writes down how a trial ended.

        Args:
            trial: It is over with this.
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
        """Remembers what the trials are made of, the first time, and compares it later.

        Args:
            made_of: Name to digest.

        Returns:
            The name of what is another than it was; None where all is the same.
        """
        before = self._study.user_attrs.get("made_of")
        if before is None:
            self._study.set_user_attr("made_of", dict(made_of))
            return None
        return next((n for n, digest in made_of.items() if before.get(n) != digest), None)

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _id_of(self, trial: FrozenTrial) -> int:
        """The key of a trial in the database, which counts the trials of all phases."""
        study = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)


def _suggested(trial: Trial, name: str, kind: Range) -> Any:  # noqa: ANN401 - of any setting
    if isinstance(kind, Between):
        return trial.suggest_float(name, kind.low, kind.high, log=kind.log)
    return trial.suggest_categorical(name, kind.choices)


@contextmanager
def open_storage(file: Path) -> Iterator[optuna.storages.RDBStorage]:
    """The database of a search.

    Args:
        file: Made if it is not there.

    Yields:
        optuna.storages.RDBStorage: Closed in the end.

    Raises:
        ModelFileError: The file is no such database, or a damaged one.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with _quiet():
            # A creator and not a path in the URL, where some letters would mean something else.
            storage = optuna.storages.RDBStorage(
                "sqlite://",
                engine_kwargs={"creator": lambda: sqlite3.connect(file), "poolclass": NullPool},
            )
    except (SQLAlchemyError, RuntimeError) as error:
        raise ModelFileError(
            "file cannot be read as the trials of a search.",
            where=file,
            hint="Move it away to begin anew.",
        ) from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna warns of what is meant here: a value that is given, an epoch that is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
