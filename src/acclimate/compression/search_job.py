"""What the parts of a compression search share: the original, the data, the folder, the clock."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from acclimate.augmentation.policy import Policy
from acclimate.compression.acceptance import predictions
from acclimate.compression.accuracy_budget import accuracy_drop
from acclimate.compression.calibration import calibration_rows
from acclimate.compression.candidates import ORIGINAL, Candidate, CandidateFolder
from acclimate.compression.settings import Compress
from acclimate.context import Context
from acclimate.data.dataset import Dataset, Rows, balanced_sample
from acclimate.evaluation.latency import measure_latency
from acclimate.models.classifier import Classifier
from acclimate.models.runtime import run_onnx


@dataclass(frozen=True)
class SearchJob:
    """The inputs of a compression search, and what its parts do alike.

    Attributes:
        original: The float model, exported.
        dataset: With the classes of the model, in the same order.
        policy: Augmentation in trainings; the default policy if None.
        settings: Budget and limits.
        context: Seed, device, progress.
        folder: Holds the candidates.
        val_rows: The val images that the original was not trained on.
        portable: Whether only int8 that all processors compute alike is tried.
        began: When the search began, on the monotonic clock.
    """

    original: Classifier
    dataset: Dataset
    policy: Policy | None
    settings: Compress
    context: Context
    folder: CandidateFolder
    val_rows: Rows
    portable: bool
    began: float = field(default_factory=time.monotonic)

    def info(self, text: str) -> None:
        """Logs a line."""
        self.context.progress.info(f"compress: {text}")

    def seconds_left(self) -> float:
        """Seconds that are left of the time limit; infinite without one."""
        if self.settings.max_minutes is None:
            return np.inf
        return 60 * self.settings.max_minutes - (time.monotonic() - self.began)

    def ranking_rows(self) -> Rows:
        """Training images beside those of the calibration; the same ones if there are no others."""
        train = self.dataset.rows("train")
        used = calibration_rows(self.dataset, self.settings.calibration_images, self.context)
        others = np.setdiff1d(train, used)
        rng = np.random.default_rng(self.context.seed_for("compress", "ranking"))
        rows = others if len(others) >= min(64, len(train) // 2) else train
        return balanced_sample(self.dataset, rows, self.settings.ranking_images, rng)

    def timed(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Measures candidates that have no latency yet, in turns with the original.

        Args:
            candidates: In the folder.

        Returns:
            The same candidates, in order, all with latency and speedup.
        """
        missing = {one.name: one for one in candidates if one.latency is None}
        if not missing:
            return list(candidates)
        models = {ORIGINAL: self.original}
        models |= {name: self.folder.load(one) for name, one in missing.items()}
        found = measure_latency(
            {name: run_onnx(model, "cpu") for name, model in models.items()},
            {name: model.contract.image_size for name, model in models.items()},
        )
        for name, one in missing.items():
            speedup = found[ORIGINAL].p50_ms / found[name].p50_ms
            missing[name] = self.folder.update(one, latency=found[name], speedup=speedup)
        return [missing.get(one.name, one) for one in candidates]

    def compared(self, candidate: Candidate) -> Candidate:
        """Compares a candidate with the original on all val images, if it was not yet.

        Args:
            candidate: In the folder.

        Returns:
            The candidate with its drop of accuracy.
        """
        if candidate.drop is None:
            after = self._predictions(self.folder.load(candidate))
            drop = accuracy_drop(self.labels, self._predictions_before, after)
            candidate = self.folder.update(candidate, drop=drop)
        assert candidate.drop is not None
        speed = "" if candidate.speedup is None else f"{candidate.speedup:.2f}x the speed, "
        size = candidate.size_bytes / len(self.original.graph or b"")
        self.info(f"{candidate.name}: {speed}{size:.2f}x the size, {candidate.drop}")
        return candidate

    @property
    def baseline(self) -> Candidate:
        """The original as a candidate, with its latency once it was measured."""
        return self.folder.pick(ORIGINAL)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """int64, (N,): of the val images."""
        return np.asarray(self.dataset.labels[self.val_rows], np.int64)

    @cached_property
    def accuracy(self) -> float:
        """Val accuracy of the original, in [0, 1]."""
        return float((self._predictions_before == self.labels).mean())

    @cached_property
    def _predictions_before(self) -> NDArray[np.int64]:
        return self._predictions(self.original)

    def _predictions(self, model: Classifier) -> NDArray[np.int64]:
        run = run_onnx(model, "cpu")
        return predictions(run, model, self.dataset, self.val_rows, context=self.context)
