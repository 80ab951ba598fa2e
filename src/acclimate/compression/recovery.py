"""Quantization-aware training that recovers the accuracy an int8 model lost."""

from dataclasses import replace

from acclimate.augmentation.policy import Policy
from acclimate.compression.settings import Quantize
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.distillation.distill import distill
from acclimate.distillation.settings import Distill
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier, plain


def recover(
    small: Classifier,
    teacher: Classifier,
    dataset: Dataset,
    policy: Policy | None,
    settings: Quantize,
    *,
    context: Context,
) -> Classifier:
    """Trains an int8 model with the float model as teacher (Jacob et al. 2017, arXiv 1712.05877).

    Args:
        small: Quantized; its ranges, size and speed stay the same.
        teacher: The float model that it was made from.
        dataset: With the classes of the teacher, in the same order.
        policy: Augmentation; the default policy if None.
        settings: Length and learning rate of the training.
        context: Seed, device, workspace, progress.

    Returns:
        The int8 model with its new weights; the last step of its card describes the training.

    Raises:
        ModelFileError: The graph has an unsupported operator, or one of its classes has no
            training images, so that training would make the model forget the class.
    """
    counts = dataset.counts("train")
    absent = [name for name in dataset.classes if not counts[name]]
    if absent:
        raise ModelFileError(
            f"{absent[0]!r} has no training images, and the model would forget it."
        )
    distill_settings = Distill(
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        max_minutes=settings.max_minutes,
        layer_decay=1.0,  # a graph does not say where its blocks are
    )
    made = distill(teacher, dataset, policy, distill_settings, context=context, start=small)
    step = made.card.steps[-1]
    used = {**plain(settings), "policy": step.settings["policy"]}
    step = replace(step, stage="quantize", settings=used)
    return replace(made, card=replace(made.card, steps=(*made.card.steps[:-1], step)))
