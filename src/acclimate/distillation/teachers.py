"""Who teaches: networks, ONNX graphs and functions, asked about the very images a student sees."""

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
from acclimate.data.images.contract import InputContract
from acclimate.errors import AcclimateError, DataError, ModelFileError, reason
from acclimate.models.classifier import Classifier
from acclimate.models.device import choose_device, on_device
from acclimate.models.runtime import best_runtime, open_session
from acclimate.models.structure import head
from acclimate.training.engine.out_of_memory import is_out_of_memory
from acclimate.training.engine.step import LossInputs

TeachingFunction = Callable[[torch.Tensor], Any]
"""RGB images, float32 in [0, 1], (b, 3, S, S) at the student's size, to logits (b, C)."""
AnyTeacher = Classifier | TeachingFunction
_MAX_CACHE_BYTES = 2**29
"""Of answers kept in memory: those of 100,000 images and 1,000 classes."""


@dataclass(frozen=True)
class TeacherOutput:
    """What teachers say of some images.

    Attributes:
        logits: float32, (b, C).
        features: float32, (b, D): what their heads read, side by side; None where not asked for.
    """

    logits: torch.Tensor
    features: torch.Tensor | None = None


_TeacherForward = Callable[[torch.Tensor], TeacherOutput]


def teacher_name(teacher: AnyTeacher) -> str:
    """Of a classifier its own, with its digest; of a function the one in the code."""
    if isinstance(teacher, Classifier):
        return f"{teacher.name}, {teacher.digest}"
    return str(getattr(teacher, "__qualname__", type(teacher).__qualname__))


class Teachers:
    """Frozen teachers of the same classes, each asked at its own size and in its own statistics.

    Of several, the mean of their probabilities teaches (Hinton et al. 2015, arXiv 1503.02531),
    given as its logarithm. A mean of logits would follow the teacher with the largest logits.

    Args:
        teachers: One or more. A classifier with a graph is run by ONNX Runtime on a CPU.
        classes: The student's, in the order of its logits.
        contract: The student's: what comes in was normalized by it.
        device: "auto", "cpu", …
        features: Whether what their heads read is wanted too.

    Raises:
        DataError: A teacher does not know one of the classes.
        ModelFileError: Features are wanted of what has no PyTorch network.
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
                    raise _no_features("A function")
                self._forwards.append(
                    _function_forward(teacher, contract, len(classes), torch_device)
                )
                continue
            adapt = _InputAdapter(contract, teacher.contract, torch_device)
            forward = _classifier_forward(teacher, device, torch_device, features)
            self._forwards.append(_in_class_order(forward, adapt, teacher, classes))
        self.feature_width = 0
        """D: of the features, where they are asked for."""
        if features:
            self.feature_width = sum(
                head(one.module()).in_features for one in teachers if isinstance(one, Classifier)
            )

    def __call__(self, loss_inputs: LossInputs) -> TeacherOutput:
        """What they say of what the student sees."""
        with torch.no_grad():
            outputs = [forward(loss_inputs.inputs) for forward in self._forwards]
        logits = _ensemble_logits([one.logits for one in outputs])
        if not bool(logits.isfinite().all()):
            raise ModelFileError(
                "the teacher's logits are not finite numbers, so nothing can be learnt from them."
            )
        features = [one.features for one in outputs if one.features is not None]
        return TeacherOutput(logits, torch.cat(features, 1) if features else None)


class CachedTeachers:
    """Teachers that are run once per image, for images that are the same in every epoch.

    Args:
        teachers: Run on rows whose output is not cached yet.
        images: Rows of the table.
    """

    def __init__(self, teachers: Callable[[LossInputs], TeacherOutput], images: int) -> None:
        self._teachers, self._cached = teachers, np.zeros(images, bool)
        self._cache: list[torch.Tensor] = []

    def __call__(self, loss_inputs: LossInputs) -> TeacherOutput:
        """What they say, or said before."""
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
    """What one network was given, as another one expects it."""

    def __init__(self, source: InputContract, target: InputContract, device: torch.device) -> None:
        self._size = target.image_size
        self._same_statistics = (source.mean, source.std) == (target.mean, target.std)
        self._source, self._target = (
            [torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (c.mean, c.std)]
            for c in (source, target)
        )

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.shape[-1] != self._size:
            size = (self._size, self._size)
            inputs = functional.interpolate(inputs, size, mode="bicubic", antialias=True)
        if self._same_statistics:
            return inputs
        return (inputs * self._source[1] + self._source[0] - self._target[0]) / self._target[1]


def _classifier_forward(
    teacher: Classifier, device: str, torch_device: torch.device, features: bool
) -> _TeacherForward:
    """By whatever runs a classifier fastest; features come from its PyTorch network alone."""
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
    """A teacher's logits in the order of the student's classes; others are left out."""
    unknown = [name for name in classes if name not in teacher.classes]
    if unknown:
        raise DataError(
            f"teacher does not know {', '.join(map(repr, unknown[:5]))}.",
            where=teacher.name,
            hint="All teachers must know the classes of the first one.",
        )
    if tuple(classes) == teacher.classes:
        return lambda inputs: forward(adapt(inputs))
    columns = [teacher.classes.index(name) for name in classes]

    def reordered(inputs: torch.Tensor) -> TeacherOutput:
        output = forward(adapt(inputs))
        return TeacherOutput(output.logits[:, columns], output.features)

    return reordered


def _function_forward(
    function: TeachingFunction, contract: InputContract, classes: int, device: torch.device
) -> _TeacherForward:
    mean, std = (
        torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (contract.mean, contract.std)
    )

    def forward(inputs: torch.Tensor) -> TeacherOutput:
        result = _call(function, (inputs * std + mean).clamp(0, 1))
        output = result.detach().float().to(device)
        if tuple(output.shape) != (len(inputs), classes):
            raise ModelFileError(
                f"the teaching function returned {tuple(output.shape)} for {len(inputs)} images "
                f"of {classes} classes, not ({len(inputs)}, {classes}).",
                where=teacher_name(function),
            )
        return TeacherOutput(output)

    return forward


def _call(function: TeachingFunction, images: torch.Tensor) -> torch.Tensor:
    """What a function of the user's own returns, whatever it does."""
    try:
        result = function(images)
    except Exception as error:
        if isinstance(error, AcclimateError) or is_out_of_memory(error):
            raise  # with too little memory fewer images are tried
        raise ModelFileError(
            f"the teaching function raised {type(error).__name__}: {reason(error)}.",
            where=teacher_name(function),
            hint=f"It was given {len(images)} images, float32 {tuple(images.shape)}.",
        ) from error
    try:
        return torch.as_tensor(result)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"the teaching function returned {type(result).__name__}, not logits.",
            where=teacher_name(function),
            hint="Return a tensor or an array of one row an image, one column a class.",
        ) from error


def _no_features(name: str) -> ModelFileError:
    return ModelFileError(
        f"{name} has no PyTorch network whose features could be hints.",
        hint="Choose another method: --set distill.method=soft.",
    )


def _ensemble_logits(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """The logarithm of the mean of probabilities; of a single teacher its logits as they are."""
    if len(logits) == 1:
        return logits[0]
    each = torch.stack([functional.log_softmax(one, dim=1) for one in logits])
    return torch.logsumexp(each, dim=0) - math.log(len(logits))
