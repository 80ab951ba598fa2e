"""The cheap part of a search: heads trained on cached features, in about a second each."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from acclimate.context import Context, derive_seed
from acclimate.data.dataset import Dataset, Rows, balanced_sample
from acclimate.features.extract import extract
from acclimate.features.fit_head import Examples, fit_head
from acclimate.features.settings import Probe
from acclimate.features.store import Features
from acclimate.fine_tuning.fine_tune import make_objective
from acclimate.fine_tuning.settings import FineTune
from acclimate.fine_tuning.stochastic_depth import stochastic_layers
from acclimate.hyperparameter_search.fine_tune_space import ON_FEATURES
from acclimate.hyperparameter_search.fine_tune_trial import SearchJob
from acclimate.hyperparameter_search.space import OneOf
from acclimate.hyperparameter_search.study import FinishedTrial, Study
from acclimate.models.adapters import constrain
from acclimate.models.classifier import Classifier
from acclimate.models.heads import HEADS
from acclimate.models.structure import backbone, head
from acclimate.progress import silent
from acclimate.training.batches.train_batches import TrainBatch, ValBatch, cut
from acclimate.training.curve import standard_error
from acclimate.training.engine.divergence import DivergedError
from acclimate.training.engine.loop import TrainResult
from acclimate.training.session import Session

TRIED = 12
"""Number of trials of heads; each takes about a second."""

_AT_ONCE = 1024
"""Batch size on val."""


class FeatureBatches:
    """What the loop is fed with where only a head learns: features in place of images.

    Args:
        train: Features and labels.
        val: Features and labels.
        rows: int64, (n,): where in the table the images of train stand.
        batch_size: Images a step.
        seed: Of the order.
    """

    def __init__(
        self, train: Examples, val: Examples, rows: Rows, batch_size: int, seed: int
    ) -> None:
        self._train, self._val, self._rows = train, val, rows
        self._batch_size, self._seed = batch_size, seed
        self.images, self.val_images = len(rows), len(val.labels)
        self.steps = len(cut(rows, batch_size))
        self.data, self.digest = None, ""  # these trainings leave no checkpoint

    def train_batches(self, epoch: int, skip: int = 0) -> Iterator[TrainBatch]:
        """Every image once, in an order of the epoch's own."""
        rng = np.random.default_rng(derive_seed(self._seed, "order", epoch))
        for places in cut(rng.permutation(self.images), self._batch_size)[skip:]:
            features, labels = self._train.features[places], self._train.labels[places]
            yield TrainBatch(features, labels, self._rows[places], len(places), 1.0)

    def val_batches(self) -> Iterator[ValBatch]:
        """Val, in its order."""
        for start in range(0, self.val_images, _AT_ONCE):
            places = slice(start, start + _AT_ONCE)
            yield ValBatch(self._val.features[places], self._val.labels[places])

    def to_input(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """Features are read as they are."""
        return lambda features: features.to(device, non_blocking=True)

    def forward_module(self, network: nn.Module) -> nn.Module:
        """The head is all there is."""
        return network


class HeadTrials:
    """Trains heads of several kinds on the same features.

    Each starts from the head that fine-tuning would start from.

    Args:
        classifier: Its backbone computes the features.
        dataset: With train and val.
        settings: Settings of fine-tuning that are not searched.
        context: Seed, device.
        kept: Whether each trial starts from the classifier's own head.
    """

    def __init__(
        self,
        classifier: Classifier,
        dataset: Dataset,
        settings: FineTune,
        context: Context,
        *,
        kept: bool,
    ) -> None:
        self.dataset, self.settings = dataset, settings
        self.context = replace(context, workspace=None, progress=silent)
        self._own = _head_only(classifier) if kept else None
        # The same images that the probe uses: their features are cached and fit into memory.
        rng = np.random.default_rng(context.seed_for("probe"))
        most = Probe().max_images
        train, val = (
            balanced_sample(dataset, dataset.rows(s), most, rng) for s in ("train", "val")
        )
        rows = np.concatenate([train, val])
        self._features = extract(classifier, dataset, rows, context)
        self._rows, self._labels = train, dataset.labels[rows]
        self._starts: dict[str, nn.Module] = {}

    def train(self, settings: FineTune) -> TrainResult:
        """Trains a head.

        Args:
            settings: Kind of head, label smoothing, dropout and the rest.

        Returns:
            The head and its curve; the start does not count, since it is the same for all trials.

        Raises:
            DivergedError: Loss or gradient is not finite.
        """
        if settings.head not in self._starts:
            self._starts[settings.head] = self._own or self._fitted(settings.head)
        network = copy.deepcopy(self._starts[settings.head])
        constrain(network)
        session = Session("fine_tune", settings, len(self._rows), self.context)
        examples = self._examples(self._features)
        source = FeatureBatches(*examples, self._rows, session.plan.batch_size, self.context.seed)
        objective = make_objective(settings, self.dataset)
        with stochastic_layers(network, settings.dropout, 0.0):
            return session.fit(network, source, objective, keep_start=False).result

    def _fitted(self, kind: str) -> nn.Module:
        """A head of a kind that fits the features, as fine-tuning fits it."""
        classes, width = len(self.dataset.classes), self._features.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.context.seed_for("head") % 2**63)
            network = nn.Sequential()
            network.add_module("head", HEADS[kind](width, classes))
        with torch.no_grad():
            features = backbone(network)(torch.from_numpy(self._features)).numpy()
        examples = self._examples(features)
        fit_head(kind, *examples, classes, Probe().regularization).copy_to(head(network))
        return network.eval()

    def _examples(self, features: Features) -> tuple[Examples, Examples]:
        halves = slice(len(self._rows)), slice(len(self._rows), None)
        train, val = (Examples(features[half], self._labels[half]) for half in halves)
        return train, val


def _head_only(classifier: Classifier) -> nn.Module:
    """A copy of the classifier's last layer as a network of its own."""
    network = nn.Sequential()
    network.add_module("head", copy.deepcopy(head(classifier.module())))
    return network.eval()


def run_head_trials(
    job: SearchJob, trials: Study, seconds_left: Callable[[], float]
) -> list[FinishedTrial]:
    """Runs the trials of heads: one of each kind first, then those that the sampler proposes.

    Args:
        job: What all trials have in common.
        trials: The study; trials of an earlier call count.
        seconds_left: Returns the seconds until the search must end.

    Returns:
        All trials; empty if no searched setting can be compared on features.
    """
    part = job.space.part(ON_FEATURES)
    if not part.ranges:
        return []
    kinds = part.ranges.get("head")
    firsts = [dict(part.default)]
    if isinstance(kinds, OneOf):
        firsts = [{**part.default, "head": kind} for kind in kinds.choices]
    bare: HeadTrials | None = None
    while (number := trials.next_number) < TRIED and seconds_left() > 0:
        trial = trials.start(part, firsts[number] if number < len(firsts) else None)
        kept = job.kept_head is not None
        bare = bare or HeadTrials(job.classifier, job.dataset, job.settings, job.context, kept=kept)
        began = time.monotonic()
        finished = FinishedTrial(trial.number, trial.values, "diverged")
        try:
            usual = job.kept_head or job.settings.head
            base = {"head": "linear" if usual == "auto" else usual}
            best = bare.train(job.with_values({**base, **trial.values})[0]).best
            finished = replace(
                finished, outcome="done", val_accuracy=best.val_accuracy, val_loss=best.val_loss,
                epochs=best.epoch,
            )  # fmt: skip
        except DivergedError as error:
            finished = replace(finished, note=str(error))
        trials.finish(trial, replace(finished, seconds=time.monotonic() - began))
    return trials.finished


def competitive_heads(
    trials: Sequence[FinishedTrial], kinds: Iterable[str], images: int
) -> tuple[str, ...]:
    """The kinds of heads whose val accuracy is within one standard error of the best.

    Args:
        trials: Trials of heads on cached features.
        kinds: All kinds.
        images: Number of val images.

    Returns:
        The kinds, in the order given.
    """
    best = {
        kind: max(
            (t.val_accuracy for t in trials if t.values["head"] == kind and t.outcome == "done"),
            default=0.0,
        )
        for kind in kinds
    }
    top = max(best.values())
    bar = top - standard_error(top, images)
    return tuple(kind for kind, accuracy in best.items() if accuracy >= bar)
