"""Hyperparameter search: heads on cached features first, then the whole network."""

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage

from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.context import Context, process_count
from acclimate.data.dataset import Dataset
from acclimate.errors import DataError, ModelFileError, OutputError, RecipeError, count
from acclimate.features.probe import check_trainable
from acclimate.files import claim, working_alone, write_atomic
from acclimate.fine_tuning.settings import FineTune
from acclimate.hyperparameter_search.fine_tune_trial import SearchJob, run_trial
from acclimate.hyperparameter_search.head_trials import competitive_heads, run_head_trials
from acclimate.hyperparameter_search.settings import Search
from acclimate.hyperparameter_search.space import OneOf, Space
from acclimate.hyperparameter_search.study import FinishedTrial, RunningTrial, Study, open_storage
from acclimate.hyperparameter_search.trial_table import describe_trial, format_values, to_csv
from acclimate.models.classifier import Classifier, is_model_folder
from acclimate.shown import Shown

DATABASE, TABLE, RECIPE, BEST = "trials.sqlite", "trials.csv", "recipe.yaml", "best"

_DEFAULT, _RANGES = FineTune(), Search()
_HERE = Context()


@dataclass(frozen=True)
class Budget:
    """When a search ends.

    Attributes:
        trials: Number of trials of the whole network, those of an earlier call included.
        max_minutes: Time for the whole search, earlier calls included; None for no limit.
    """

    trials: int
    max_minutes: float | None = None


@dataclass(frozen=True, repr=False)
class SearchResult(Shown):
    """The result of a search.

    Attributes:
        classifier: Classifier of the best trial.
        settings: Settings of the best trial.
        policy: Augmentation of the best trial.
        best: The best trial.
        on_features: The trials on cached features, in order.
        trials: The trials of the whole network, in order; the first one is the default.
        folder: Holds the trials and the best classifier.
    """

    classifier: Classifier
    settings: FineTune
    policy: Policy
    best: FinishedTrial
    on_features: tuple[FinishedTrial, ...]
    trials: tuple[FinishedTrial, ...]
    folder: Path

    def summary(self) -> dict[str, str]:
        """What it is, in words."""
        return {
            "trials": count(len(self.trials), "trial"),
            "best": f"best val accuracy {self.best.val_accuracy:.3f}",
            "folder": repr(str(self.folder)),
        }


def search(
    classifier: Classifier,
    dataset: Dataset,
    policy: Policy | None = None,
    settings: FineTune = _DEFAULT,
    ranges: Search = _RANGES,
    *,
    budget: Budget,
    folder: Path,
    context: Context = _HERE,
) -> SearchResult:
    """Fine-tunes with different settings and keeps the model that is best on val.

    The first trial uses the default settings, so the best one is never below `fine_tune` on val.
    Then a tree-structured Parzen estimator proposes settings (Bergstra et al. 2011; Optuna), and
    trials below the median are pruned. The same call resumes a search that was killed.

    Args:
        classifier: As for `fine_tune`.
        dataset: Cleaned and split; val decides which trial is best.
        policy: Augmentation; the default one when None.
        settings: Settings of fine-tuning; those that are given keep their values.
        ranges: Ranges of the others.
        budget: When to end.
        folder: For the trials and the best classifier so far; created if it does not exist.
        context: Seed, device, progress; its workspace is not used.

    Returns:
        The best trial, its classifier, and all trials.

    Raises:
        RecipeError: There is nothing to search, or a setting cannot be used in a search.
        DataError: There is no val split.
        OutputError: The folder holds another search, or another process uses it.
    """
    _check(dataset, settings)
    job = SearchJob(classifier, dataset, policy or choose_policy(), settings, ranges, context)
    if not job.space.ranges:
        raise RecipeError(
            "every setting is given, so there is nothing to search.",
            where="fine_tune",
            hint="Leave some settings out, or set them to auto.",
        )
    with _locked(folder), open_storage(folder / DATABASE) as storage:
        return _Search(job, budget, folder, storage).run()


def _check(dataset: Dataset, settings: FineTune) -> None:
    if settings.max_minutes is not None:
        raise RecipeError(
            f"max_minutes {settings.max_minutes:g} ends a single training, and a search compares "
            "trainings of equal length.",
            where="fine_tune.max_minutes",
            hint="Leave it out; --max-minutes bounds the whole search.",
        )
    if settings.keep_classes:
        raise RecipeError(
            "keep_classes cannot be used in a search: if images of old classes are missing, "
            "nothing is trained that trials could compare.",
            where="fine_tune.keep_classes",
            hint="Leave it out, or fine-tune without --trials.",
        )
    if process_count() > 1:
        raise RecipeError("a search runs in one process.", hint="Start it without torchrun.")
    check_trainable(dataset)
    if not len(dataset.rows("val")):
        raise DataError(
            "the val split has no images, and the search needs them to compare trials.",
            where=dataset.shown_root,
            hint="Add some, or set clean.val above 0.",
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One search at a time in a folder."""
    claim(folder, is_ours=lambda f: (f / ".lock").exists(), replace=True, is_folder=True)
    hint = "Wait for it, or choose another place with --out."
    with working_alone(folder, busy="another search is working in this folder.", hint=hint):
        yield


class _Search:
    """A running search."""

    def __init__(self, job: SearchJob, budget: Budget, folder: Path, storage: RDBStorage) -> None:
        self.job, self.budget, self.folder = job, budget, folder
        self.info = job.context.progress.info
        self.began = time.monotonic()
        seed = job.context.seed_for
        self.heads = Study(storage, "features", lambda n: seed("search", "features", n))
        self.trials = Study(
            storage,
            "network",
            lambda n: seed("search", "network", n),
            patience=max(1, job.plan.epochs // 3),
        )
        other = self.trials.changed_input(job.made_of())
        if other is not None:
            verb = "differ" if other == "settings" else "differs"
            raise OutputError(
                f"the folder holds a search whose {other} {verb} from this one.",
                where=folder,
                hint="Choose another place with --out, or delete that folder.",
            )
        self.elapsed = self.trials.elapsed

    def seconds_left(self) -> float:
        """Seconds that are left of the budget; infinite without one."""
        if self.budget.max_minutes is None:
            return math.inf
        return 60 * self.budget.max_minutes - self._elapsed()

    def _elapsed(self) -> float:
        return self.elapsed + time.monotonic() - self.began

    def run(self) -> SearchResult:
        """Runs trials of heads, then of the whole network, until the budget is used up."""
        self.info(
            f"search: {count(self.budget.trials, 'trial')} of {', '.join(self.job.space.ranges)}"
        )
        for name, value in self.job.space.fixed.items():
            self.info(f"  {name}: {value}, as given")
        on_features = run_head_trials(self.job, self.heads, self.seconds_left)
        firsts = self._first_trials(on_features)
        wanted = self._without_worse_heads(on_features)
        while (number := self.trials.next_number) < self.budget.trials and self._has_time_left():
            self._run_one(
                self.trials.start(wanted, firsts[number] if number < len(firsts) else None)
            )
            self._write_table()
        return self._result()

    def _first_trials(self, on_features: Sequence[FinishedTrial]) -> list[Mapping[str, Any]]:
        """The default settings, then the defaults with the best values found on features."""
        default = self.job.space.default
        if not on_features:
            return [default]
        best = max(on_features, key=lambda t: t.rank)
        self.info(
            f"on cached features: best val accuracy {best.val_accuracy:.3f} with "
            f"{format_values(best.values)} ({count(len(on_features), 'trial')})"
        )
        seeded = {**default, **best.values}
        return [default] if seeded == default else [default, seeded]

    def _without_worse_heads(self, on_features: Sequence[FinishedTrial]) -> Space:
        """The search space without the heads that are worse on cached features."""
        kinds = self.job.space.ranges.get("head")
        if not isinstance(kinds, OneOf) or not on_features:
            return self.job.space
        names = [str(kind) for kind in kinds.choices]
        fit = competitive_heads(on_features, names, len(self.job.dataset.rows("val")))
        if len(fit) < len(names):
            self.info(f"  head: {', '.join(fit)}; the others are worse on cached features")
        return self.job.space.with_heads(fit)

    def _has_time_left(self) -> bool:
        """Whether there is time for another trial of mean length."""
        if not self.trials.finished:
            return True  # at least one trial is always run
        whole = [t.seconds for t in self.trials.finished if t.outcome == "done"]
        fits = self.seconds_left() > (sum(whole) / len(whole) if whole else 0.0)
        if not fits:
            self.info("search: no time is left for another trial")
        return fits

    def _run_one(self, trial: RunningTrial) -> None:
        """Trains one network and saves it if it is the best."""
        place = self.folder / f"trial-{trial.number}"
        self.elapsed += trial.elapsed
        before = self._best()
        finished, model = run_trial(self.job, trial, place, self.seconds_left)
        kept = before is None or finished.rank > before.rank
        if model is not None and kept:
            # Saved before the trial is finished: after a kill it is made again from its checkpoint.
            model.save(self.folder / BEST)
        self.trials.finish(trial, finished)
        self.trials.save_elapsed(self._elapsed())
        shutil.rmtree(place, ignore_errors=True)
        mark = " (best)" if model is not None and kept else ""
        self.info(
            f"trial {trial.number + 1}/{self.budget.trials}: {describe_trial(finished)}{mark}"
        )

    def _best(self) -> FinishedTrial | None:
        """The best trial that has a classifier."""
        return max(
            (t for t in self.trials.finished if t.digest), key=lambda t: t.rank, default=None
        )

    def _result(self) -> SearchResult:
        best = self._best()
        self._write_table()
        if best is None:
            raise RecipeError(
                "no trial was trained to the end: all diverged or were pruned.",
                where=self.folder / TABLE,
                hint="Give a lower learning_rate.",
            )
        if best.outcome == "out of time":
            self.info(
                f"search: the time ended in epoch {best.epochs} of {self.job.plan.epochs} of the "
                "first trial; its recipe trains to the end"
            )
        settings, policy = self.job.with_values(best.values)
        return SearchResult(
            self._with_note(self._kept(best)), settings, policy, best,
            tuple(self.heads.finished), tuple(self.trials.finished), self.folder,
        )  # fmt: skip

    def _kept(self, best: FinishedTrial) -> Classifier:
        """The best trial's classifier; trained again if its folder is gone."""
        place = self.folder / BEST
        if is_model_folder(place):
            try:
                found = Classifier.load(place, network=self.job.own_module())
                if found.digest == best.digest:
                    return found
            except ModelFileError:
                pass  # incomplete: it is trained again below
        self.info(
            f"search: the classifier of trial {best.number + 1} is missing; training it again"
        )
        again = self.folder / f"trial-{best.number}"
        model = self.job.fine_tuned(best.values, again)
        model.save(place)
        shutil.rmtree(again, ignore_errors=True)
        return model

    def _with_note(self, model: Classifier) -> Classifier:
        asked = count(len(self.trials.finished), "trial")
        note = f"Best of {asked} on val, so its val accuracy is too high; see its test accuracy."
        *before, last = model.card.steps
        step = replace(last, notes=(*last.notes, note))
        return replace(model, card=replace(model.card, steps=(*before, step)))

    def _write_table(self) -> None:
        phases = {"features": self.heads.finished, "network": self.trials.finished}
        write_atomic(self.folder / TABLE, to_csv(phases, self.job.space.ranges))
