"""Teachers: networks, ONNX graphs and functions, run on the views that the student sees."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from acclimate.data.dataset import Rows
from acclimate.data.images.contract import GREY, InputContract
from acclimate.errors import AcclimateError, DataError, ModelFileError, reason
from acclimate.models.classifier import Classifier
from acclimate.models.device import choose_device, on_device
from acclimate.models.runtime import best_runtime, open_session
from acclimate.models.structure import head
from acclimate.training.engine.out_of_memory import is_out_of_memory
from acclimate.training.engine.step import LossInputs

TeacherFunction = Callable[[torch.Tensor], Any]
"""RGB images, float32 in [0, 1], (b, 3, S, S) at the student's size, to logits (b, C)."""
AnyTeacher = Classifier | TeacherFunction
_MAX_CACHE_BYTES = 2**29
"""Cached teacher outputs in memory: enough for 100,000 images and 1,000 classes."""


@dataclass(frozen=True)
class TeacherOutput:
    """Output of the teachers for a batch.

    Attributes:
        logits: float32, (b, C).
        features: float32, (b, D): inputs of the heads, concatenated; None unless requested.
    """

    logits: torch.Tensor
    features: torch.Tensor | None = None


_TeacherForward = Callable[[torch.Tensor], TeacherOutput]


def teacher_name(teacher: AnyTeacher) -> str:
    """Name and digest of a classifier; qualified name of a function."""
    if isinstance(teacher, Classifier):
        return f"{teacher.name}, {teacher.digest}"
    return str(getattr(teacher, "__qualname__", type(teacher).__qualname__))


class Teachers:
    """Frozen teachers of the same classes, each run at its own input size and normalization.

    Several teachers are averaged as probabilities (Hinton et al. 2015, arXiv 1503.02531), and the
    logarithm of the mean is returned. A mean of logits would follow the teacher with the largest.

    Args:
        teachers: One or more. A classifier with a graph is run by ONNX Runtime on a CPU.
        classes: Classes of the student, in the order of its logits.
        contract: Input contract of the student, by which the inputs were normalized.
        device: "auto", "cpu", …
        features: Whether to return the inputs of the heads too.

    Raises:
        DataError: A teacher lacks one of the classes.
        ModelFileError: Features are requested of a teacher without a PyTorch network.
    """

    def __init__(
        self,
        teachers: Sequence[AnyTeacher],
        classes: Sequence[str],
        contract: InputContract,
        *,
        device: str,
        features: bool = False,
    ) -> None:
        torch_device = choose_device(device)
        self._forwards: list[_TeacherForward] = []
        for teacher in teachers:
            if not isinstance(teacher, Classifier):
                if features:
                    raise _no_features("a teacher function")
                self._forwards.append(
                    _function_forward(teacher, contract, len(classes), torch_device)
                )
                continue
            adapt = _InputAdapter(contract, teacher.contract, torch_device)
            forward = _classifier_forward(teacher, device, torch_device, features)
            self._forwards.append(_in_class_order(forward, adapt, teacher, classes))
        self.feature_width = 0
        """D, the width of the features; 0 unless they are requested."""
        if features:
            self.feature_width = sum(
                head(one.module()).in_features for one in teachers if isinstance(one, Classifier)
            )

    def __call__(self, loss_inputs: LossInputs) -> TeacherOutput:
        """The output for the inputs of the student."""
        with torch.no_grad():
            outputs = [forward(loss_inputs.inputs) for forward in self._forwards]
        logits = _ensemble_logits([one.logits for one in outputs])
        if not bool(logits.isfinite().all()):
            raise ModelFileError(
                "the logits of the teacher contain NaN or infinity, so a student cannot be trained."
            )
        features = [one.features for one in outputs if one.features is not None]
        return TeacherOutput(logits, torch.cat(features, 1) if features else None)


class CachedTeachers:
    """Teachers that run once per image, for views that are the same in every epoch.

    Args:
        teachers: Run on rows whose output is not cached yet.
        images: Number of rows of the table.
    """

    def __init__(self, teachers: Callable[[LossInputs], TeacherOutput], images: int) -> None:
        self._teachers, self._cached = teachers, np.zeros(images, bool)
        self._cache: list[torch.Tensor] = []

    def __call__(self, loss_inputs: LossInputs) -> TeacherOutput:
        """The output for the inputs of the student, from the cache if all rows are in it."""
        if not self._cached[loss_inputs.rows].all():
            return self._query(loss_inputs)
        device = loss_inputs.inputs.device
        return TeacherOutput(
            *(part[torch.from_numpy(loss_inputs.rows)].to(device) for part in self._cache)
        )

    def _query(self, loss_inputs: LossInputs) -> TeacherOutput:
        output = self._teachers(loss_inputs)
        parts = [output.logits] if output.features is None else [output.logits, output.features]
        if not self._cache:
            width = sum(part.shape[1] for part in parts)
            if 4 * width * len(self._cached) > _MAX_CACHE_BYTES:
                return output
            self._cache = [torch.empty(len(self._cached), part.shape[1]) for part in parts]
        self._store(loss_inputs.rows, parts)
        return output

    def _store(self, rows: Rows, parts: Sequence[torch.Tensor]) -> None:
        for place, part in zip(self._cache, parts, strict=True):
            place[torch.from_numpy(rows)] = part.float().cpu()
        self._cached[rows] = True


class _InputAdapter:
    """Converts inputs from the size, channels and normalization of one contract to another's."""

    def __init__(self, source: InputContract, target: InputContract, device: torch.device) -> None:
        self._size = target.image_size
        self._same_statistics = (source.mean, source.std) == (target.mean, target.std)
        weights = torch.tensor(GREY, device=device).view(1, 3, 1, 1) / 65536
        self._to_grey = weights if target.channels == 1 else None
        self._source, self._target = (
            [torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (c.mean, c.std)]
            for c in (source, target)
        )

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.shape[-1] != self._size:
            size = (self._size, self._size)
            inputs = functional.interpolate(inputs, size, mode="bicubic", antialias=True)
        if self._same_statistics:
            return inputs
        pixels = inputs * self._source[1] + self._source[0]
        if self._to_grey is not None and pixels.shape[1] == 3:
            pixels = (pixels * self._to_grey).sum(1, keepdim=True)
        # A grey image for a teacher of colors: broadcast to its three channels.
        return (pixels - self._target[0]) / self._target[1]


def _classifier_forward(
    teacher: Classifier, device: str, torch_device: torch.device, features: bool
) -> _TeacherForward:
    """Runs a classifier in the fastest runtime; features need its PyTorch network."""
    if features:
        if teacher.network is None:
            raise _no_features(teacher.name)
        return _features_forward(_frozen(teacher, torch_device))
    if best_runtime(teacher, device) == "torch":
        network = _frozen(teacher, torch_device)
        return lambda inputs: TeacherOutput(network(inputs).float())
    assert teacher.graph is not None
    infer = open_session(teacher.graph, device)

    def forward(inputs: torch.Tensor) -> TeacherOutput:
        return TeacherOutput(
            torch.from_numpy(infer(inputs.cpu().contiguous().numpy())).to(torch_device)
        )

    return forward


def _frozen(teacher: Classifier, device: torch.device) -> nn.Module:
    network: nn.Module = on_device(copy.deepcopy(teacher.module()), device)
    return network.eval().requires_grad_(False)


def _features_forward(network: nn.Module) -> _TeacherForward:
    read: list[torch.Tensor] = []
    head(network).register_forward_pre_hook(lambda _, given: read.append(given[0]))

    def forward(inputs: torch.Tensor) -> TeacherOutput:
        read.clear()
        logits = network(inputs).float()
        return TeacherOutput(logits, read[0].float())

    return forward


def _in_class_order(
    forward: _TeacherForward, adapt: _InputAdapter, teacher: Classifier, classes: Sequence[str]
) -> _TeacherForward:
    """The logits of a teacher in the class order of the student, without any other classes."""
    unknown = [name for name in classes if name not in teacher.classes]
    if unknown:
        raise DataError(
            f"the teacher lacks classes of the student: {', '.join(map(repr, unknown[:5]))}.",
            where=teacher.name,
            hint="Every teacher must have all classes of the first one.",
        )
    if tuple(classes) == teacher.classes:
        return lambda inputs: forward(adapt(inputs))
    columns = [teacher.classes.index(name) for name in classes]

    def reordered(inputs: torch.Tensor) -> TeacherOutput:
        output = forward(adapt(inputs))
        return TeacherOutput(output.logits[:, columns], output.features)

    return reordered


def _function_forward(
    function: TeacherFunction, contract: InputContract, classes: int, device: torch.device
) -> _TeacherForward:
    mean, std = (
        torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (contract.mean, contract.std)
    )

    def forward(inputs: torch.Tensor) -> TeacherOutput:
        result = _call(function, (inputs * std + mean).clamp(0, 1))
        output = result.detach().float().to(device)
        if tuple(output.shape) != (len(inputs), classes):
            raise ModelFileError(
                f"the teacher function returned {tuple(output.shape)} for {len(inputs)} images "
                f"of {classes} classes, not ({len(inputs)}, {classes}).",
                where=teacher_name(function),
            )
        return TeacherOutput(output)

    return forward


def _call(function: TeacherFunction, images: torch.Tensor) -> torch.Tensor:
    """The result of a user's function as a tensor; its errors become a ModelFileError."""
    try:
        result = function(images)
    except Exception as error:
        if isinstance(error, AcclimateError) or is_out_of_memory(error):
            raise  # out of memory: the loop retries with smaller micro-batches
        raise ModelFileError(
            f"the teacher function raised {type(error).__name__}: {reason(error)}.",
            where=teacher_name(function),
            hint=f"Its input was a float32 tensor of shape {tuple(images.shape)}.",
        ) from error
    try:
        return torch.as_tensor(result)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"the teacher function returned {type(result).__name__}, not logits.",
            where=teacher_name(function),
            hint="Return a tensor or an array with one row per image and one column per class.",
        ) from error


def _no_features(name: str) -> ModelFileError:
    return ModelFileError(
        f"{name} has no PyTorch network, which the method hints needs.",
        hint="Choose another method: --set distill.method=soft.",
    )


def _ensemble_logits(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """The logarithm of the mean probabilities; the unchanged logits of a single teacher."""
    if len(logits) == 1:
        return logits[0]
    each = torch.stack([functional.log_softmax(one, dim=1) for one in logits])
    return torch.logsumexp(each, dim=0) - math.log(len(logits))
