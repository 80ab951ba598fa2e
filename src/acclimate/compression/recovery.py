"""What quantization lost, learnt again within the same 8 bits."""

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
    """The int8 model after learning from the float one (quantization-aware, arXiv 1712.05877).

    Args:
        small: Quantized; it keeps its ranges, its size and its speed.
        teacher: The float model that it was made from.
        dataset: Of the teacher's classes, in their order.
        policy: Augmentation; the default one when None.
        settings: How long, at which rate.
        context: Seed, device, workspace, progress.

    Returns:
        The int8 model with its new weights; the last step of its card is the training's.

    Raises:
        ModelFileError: It cannot learn: its graph holds an unknown operator, or a class that it
            knows has no training images and would be unlearnt.
    """
    counts = dataset.counts("train")
    absent = [name for name in dataset.classes if not counts[name]]
    if absent:
        raise ModelFileError(f"there are no training images of {absent[0]!r}, which it would lose.")
    distill_settings = Distill(
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        max_minutes=settings.max_minutes,
        layer_decay=1.0,  # a graph has no blocks
    )
    made = distill(teacher, dataset, policy, distill_settings, context=context, start=small)
    step = made.card.steps[-1]
    used = {**plain(settings), "policy": step.settings["policy"]}
    step = replace(step, stage="quantize", settings=used)
    return replace(made, card=replace(made.card, steps=(*made.card.steps[:-1], step)))
