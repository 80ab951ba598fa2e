"""Who teaches: networks, ONNX graphs and functions, asked about the very views a student sees."""

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
_MOST_KEPT_BYTES = 2**29
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


Ask = Callable[[torch.Tensor], TeacherOutput]


def name_of(teacher: AnyTeacher) -> str:
    """Of a classifier its own, with its digest; of a function the one in the code."""
    if isinstance(teacher, Classifier):
        return f"{teacher.name}, {teacher.digest}"
    return str(getattr(teacher, "__qualname__", type(teacher).__qualname__))


class Teachers:
    """Frozen teachers of the same classes, each asked at its own size and in its own statistics.

    Of several, the mean of their probabilities teaches (Hinton et al. 2015, arXiv 1503.02531),
    told as its logarithm: the mean of logits would follow whoever shouts loudest.

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
        chosen = choose_device(device)
        self.asked: list[Ask] = []
        for teacher in teachers:
            if not isinstance(teacher, Classifier):
                if features:
                    raise _featureless("A function")
                self.asked.append(_function(teacher, contract, len(classes), chosen))
                continue
            view = _View(contract, teacher.contract, chosen)
            ask = _asker(teacher, device, chosen, features)
            self.asked.append(_ordered(ask, view, teacher, classes))
        self.width = 0
        """D: of the features, where they are asked for."""
        if features:
            self.width = sum(
                head(one.module()).in_features for one in teachers if isinstance(one, Classifier)
            )

    def __call__(self, loss_inputs: LossInputs) -> TeacherOutput:
        """What they say of what the student sees."""
        with torch.no_grad():
            outputs = [ask(loss_inputs.inputs) for ask in self.asked]
        logits = _together([o.logits for o in outputs])
        if not bool(logits.isfinite().all()):
            raise ModelFileError(
                "the teacher's logits are not finite numbers, so nothing can be learnt from them."
            )
        features = [o.features for o in outputs if o.features is not None]
        return TeacherOutput(logits, torch.cat(features, 1) if features else None)


class Remembering:
    """Teachers who answer once an image: for views that are the same in every epoch.

    Args:
        teachers: Who is asked about rows that were not seen yet.
        images: Rows of the table.
    """

    def __init__(self, teachers: Callable[[LossInputs], TeacherOutput], images: int) -> None:
        self.teachers, self.known = teachers, np.zeros(images, bool)
        self.kept: list[torch.Tensor] = []

    def __call__(self, loss_inputs: LossInputs) -> TeacherOutput:
        """What they say, or said before."""
        if not self.known[loss_inputs.rows].all():
            return self._learn(loss_inputs)
        device = loss_inputs.inputs.device
        return TeacherOutput(
            *(part[torch.from_numpy(loss_inputs.rows)].to(device) for part in self.kept)
        )

    def _learn(self, loss_inputs: LossInputs) -> TeacherOutput:
        output = self.teachers(loss_inputs)
        parts = [output.logits] if output.features is None else [output.logits, output.features]
        if not self.kept:
            width = sum(part.shape[1] for part in parts)
            if 4 * width * len(self.known) > _MOST_KEPT_BYTES:
                return output
            self.kept = [torch.empty(len(self.known), part.shape[1]) for part in parts]
        self._keep(loss_inputs.rows, parts)
        return output

    def _keep(self, rows: Rows, parts: Sequence[torch.Tensor]) -> None:
        for place, part in zip(self.kept, parts, strict=True):
            place[torch.from_numpy(rows)] = part.float().cpu()
        self.known[rows] = True


class _View:
    """What one network was given, as another one expects it."""

    def __init__(self, own: InputContract, theirs: InputContract, device: torch.device) -> None:
        self.size = theirs.image_size
        self.same = (own.mean, own.std) == (theirs.mean, theirs.std)
        self.own, self.theirs = (
            [torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (c.mean, c.std)]
            for c in (own, theirs)
        )

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.shape[-1] != self.size:
            size = (self.size, self.size)
            inputs = functional.interpolate(inputs, size, mode="bicubic", antialias=True)
        if self.same:
            return inputs
        return (inputs * self.own[1] + self.own[0] - self.theirs[0]) / self.theirs[1]


def _asker(teacher: Classifier, device: str, chosen: torch.device, features: bool) -> Ask:
    """By whatever runs a classifier fastest; features come from its PyTorch network alone."""
    if features:
        if teacher.network is None:
            raise _featureless(teacher.name)
        return _with_features(_frozen(teacher, chosen))
    if best_runtime(teacher, device) == "torch":
        network = _frozen(teacher, chosen)
        return lambda inputs: TeacherOutput(network(inputs).float())
    assert teacher.graph is not None
    infer = open_session(teacher.graph, device)

    def ask(inputs: torch.Tensor) -> TeacherOutput:
        return TeacherOutput(torch.from_numpy(infer(inputs.cpu().contiguous().numpy())).to(chosen))

    return ask


def _frozen(teacher: Classifier, device: torch.device) -> nn.Module:
    network: nn.Module = on_device(copy.deepcopy(teacher.module()), device)
    return network.eval().requires_grad_(False)


def _with_features(network: nn.Module) -> Ask:
    read: list[torch.Tensor] = []
    head(network).register_forward_pre_hook(lambda _, given: read.append(given[0]))

    def ask(inputs: torch.Tensor) -> TeacherOutput:
        read.clear()
        logits = network(inputs).float()
        return TeacherOutput(logits, read[0].float())

    return ask


def _ordered(ask: Ask, view: _View, teacher: Classifier, classes: Sequence[str]) -> Ask:
    """A teacher's logits in the order of the student's classes; others are left out."""
    unknown = [name for name in classes if name not in teacher.classes]
    if unknown:
        raise DataError(
            f"teacher does not know {', '.join(map(repr, unknown[:5]))}.",
            where=teacher.name,
            hint="All teachers must know the classes of the first one.",
        )
    if tuple(classes) == teacher.classes:
        return lambda inputs: ask(view(inputs))
    columns = [teacher.classes.index(name) for name in classes]

    def ordered(inputs: torch.Tensor) -> TeacherOutput:
        output = ask(view(inputs))
        return TeacherOutput(output.logits[:, columns], output.features)

    return ordered


def _function(
    function: TeachingFunction, contract: InputContract, classes: int, device: torch.device
) -> Ask:
    mean, std = (
        torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (contract.mean, contract.std)
    )

    def ask(inputs: torch.Tensor) -> TeacherOutput:
        answer = _answer(function, (inputs * std + mean).clamp(0, 1))
        logits = answer.detach().float().to(device)
        if tuple(logits.shape) != (len(inputs), classes):
            raise ModelFileError(
                f"the teaching function returned {tuple(logits.shape)} for {len(inputs)} images "
                f"of {classes} classes, not ({len(inputs)}, {classes}).",
                where=name_of(function),
            )
        return TeacherOutput(logits)

    return ask


def _answer(function: TeachingFunction, images: torch.Tensor) -> torch.Tensor:
    """What a function of the user's own returns, whatever it does."""
    try:
        answer = function(images)
    except Exception as error:
        if isinstance(error, AcclimateError) or is_out_of_memory(error):
            raise  # with too little memory fewer images are tried
        raise ModelFileError(
            f"the teaching function raised {type(error).__name__}: {reason(error)}.",
            where=name_of(function),
            hint=f"It was given {len(images)} images, float32 {tuple(images.shape)}.",
        ) from error
    try:
        return torch.as_tensor(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"the teaching function returned {type(answer).__name__}, not logits.",
            where=name_of(function),
            hint="Return a tensor or an array of one row an image, one column a class.",
        ) from error


def _featureless(who: str) -> ModelFileError:
    return ModelFileError(
        f"{who} has no PyTorch network whose features could be hints.",
        hint="Choose another method: --set distill.method=soft.",
    )


def _together(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """The logarithm of the mean of probabilities; of a single teacher its logits as they are."""
    if len(logits) == 1:
        return logits[0]
    each = torch.stack([functional.log_softmax(one, dim=1) for one in logits])
    return torch.logsumexp(each, dim=0) - math.log(len(logits))
