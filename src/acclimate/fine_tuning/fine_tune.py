"""The stage fine-tune: trains a pretrained classifier on the user's classes."""

import copy
import time
from dataclasses import dataclass, replace

import torch
from torch import nn

from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import RecipeError, count, listed
from acclimate.features.discriminant import with_statistics
from acclimate.features.probe import check_trainable
from acclimate.fine_tuning.auto_freeze import choose_trainable
from acclimate.fine_tuning.class_incremental import (
    class_increment_of,
    from_class_statistics,
    rehearsal_settings,
)
from acclimate.fine_tuning.forgetting import with_forgetting_report
from acclimate.fine_tuning.head_init import with_fitted_head
from acclimate.fine_tuning.settings import FineTune
from acclimate.fine_tuning.stochastic_depth import stochastic_layers
from acclimate.fine_tuning.trainable_layers import freeze_layers
from acclimate.models.adapters import constrain, merge
from acclimate.models.classifier import Classifier
from acclimate.models.outputs import check_training
from acclimate.training.batches.frozen_prefix import FrozenPart, frozen_prefix
from acclimate.training.batches.progressive_resizing import check_sizes, growing_sizes
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.engine.loop import EpochCallback
from acclimate.training.engine.step import LossInputs, Objective
from acclimate.training.optim.class_imbalance import label_trust, log_shares
from acclimate.training.optim.losses import LOSSES
from acclimate.training.optim.optimizers import OptimizerFactory
from acclimate.training.plan import TrainPlan
from acclimate.training.session import Session

_DEFAULT = FineTune()
_HERE = Context()


def fine_tune(
    classifier: Classifier,
    dataset: Dataset,
    policy: Policy | None = None,
    settings: FineTune = _DEFAULT,
    *,
    context: Context = _HERE,
    optimizer: OptimizerFactory | None = None,
    epoch_callback: EpochCallback | None = None,
) -> Classifier:
    """Fits a head, then trains all layers, or the layers that the settings name.

    If the classifier does not know the data's classes yet, its head is first fitted on frozen
    features (LP-FT, Kumar et al. 2022, arXiv 2202.10054); with `keep_classes` they are added to
    its own classes (`class_incremental`). Layers that are not trained stay the same, bit for bit;
    adapters are merged into the weights at the end. The best weights on val are kept, the start
    included, so the result is never below the probe there.

    Args:
        classifier: Pretrained, or fine-tuned on these classes before.
        dataset: Cleaned and split.
        policy: Augmentation; the default one when None.
        settings: Epochs, learning rate and the rest.
        context: Seed, device, workspace, progress.
        optimizer: From Python only: a function from parameter groups to an optimizer.
        epoch_callback: Called after each epoch; returns whether to continue.

    Returns:
        A new classifier; the given one is unchanged.

    Raises:
        DataError: The data cannot be used for training.
        RecipeError: Settings do not fit the data, or the training diverges.
    """
    began = time.monotonic()
    increment = class_increment_of(classifier, dataset, settings) if settings.keep_classes else None
    if increment is None:
        check_trainable(dataset)
    elif increment.absent:
        return from_class_statistics(increment, settings, context)
    else:
        dataset, settings = increment.dataset, rehearsal_settings(increment, settings, context)
    session = Session("fine_tune", settings, len(dataset.rows("train")), context, began=began)
    if val_gap := val_gap_note(dataset):
        context.progress.info(val_gap)
    sizes = _sizes(settings, classifier, session.plan)
    objective = make_objective(settings, dataset)
    start = with_fitted_head(classifier, dataset, settings.head, context)
    images = TrainingImages(
        dataset, policy or choose_policy(), start.contract, context, sizes=sizes
    )
    ready = prepare(session, settings, start, images, objective, context)
    settings, network = ready.settings, ready.network
    with stochastic_layers(network, settings.dropout, settings.drop_path) as missing:
        if missing:
            context.progress.info(missing)
        session.find_rate(network, images, objective, optimizer)
        scores = {"scores": dataset.scores_digest} if settings.label_weights else {}
        part = _frozen_prefix(network, images, session.plan, settings, context)
        fit = session.fit(
            network, part.source if part and part.source else images, objective,
            optimizer=optimizer, epoch_callback=epoch_callback,
            fingerprint={"model": _start_digest(classifier), **scores},
            recorded={"policy": images.policy.as_record()},
        )  # fmt: skip
    merge(fit.network)
    if settings.trainable != "all":
        fit.network.requires_grad_(True)
    frozen = [f"Frozen part: {part.note}."] if part else []
    notes = (
        f"Trained: {ready.trained}.",
        *frozen,
        *fit.step.notes,
        *([val_gap] if val_gap else []),
    )
    step = replace(fit.step, notes=notes)
    made = start.after(step, network=fit.network, trained_on=dataset)
    if settings.class_statistics:
        made = with_statistics(made, dataset, context)
    return with_forgetting_report(made, classifier, dataset, context) if increment else made


@dataclass(frozen=True)
class Prepared:
    """A network that is ready to be trained.

    Attributes:
        settings: Settings in which `trainable` is decided.
        network: A copy in which the other layers are frozen.
        trained: Which layers are trained, in words.
    """

    settings: FineTune
    network: nn.Module
    trained: str


def _sizes(settings: FineTune, classifier: Classifier, plan: TrainPlan) -> tuple[int, ...]:
    """Size of the training images in each epoch, in px; empty if it does not grow."""
    if settings.start_size is None:
        return ()
    if plan.max_minutes is not None:
        raise RecipeError(
            "start_size needs a number of epochs, and a time budget leaves it open.",
            where="start_size",
            hint="Give epochs in place of minutes.",
        )
    return growing_sizes(settings.start_size, classifier.contract.image_size, plan.epochs)


def prepare(
    session: Session,
    settings: FineTune,
    start: Classifier,
    images: TrainingImages,
    objective: Objective,
    context: Context,
) -> Prepared:
    """Decides which layers are trained, and copies the network with the others frozen.

    Args:
        session: The session, which records the decision.
        settings: Settings of fine-tuning.
        start: With a fitted head; unchanged.
        images: The images.
        objective: The loss.
        context: Seed, workspace, progress.

    Returns:
        The decided settings, the network, and what is trained in words.

    Raises:
        RecipeError: The choice needs one process, or an image size does not fit the network.
    """
    if settings.trainable == "auto":
        choice = choose_trainable(start.module(), images, objective, session.time_left, context)
        settings = choice.apply_to(settings)
        session.decide(settings, "trainable", choice.reason)
    network = copy.deepcopy(start.module())
    if not start.architecture.startswith("timm:"):
        check_training(network, torch.zeros(2, *start.contract.input_shape))
    constrain(network)
    trained = freeze_layers(network, settings, images, context)
    if settings.trainable != "all":
        context.progress.info(f"trainable: {trained}")
    if images.sizes:
        check_sizes(network, images.sizes, start.name, start.contract.channels)
        shown = ", ".join(f"{size} px" for size in images.sizes)
        context.progress.info(f"image sizes by epoch: {shown}")
    return Prepared(settings, network, trained)


def _frozen_prefix(
    network: nn.Module,
    images: TrainingImages,
    plan: TrainPlan,
    settings: FineTune,
    context: Context,
) -> FrozenPart | None:
    """The frozen first part of the network and its kept activations; None if there is none."""
    if settings.trainable in ("all", "lora"):
        return None
    return frozen_prefix(network, images, plan, settings.prefix_views, context)


def _start_digest(classifier: Classifier) -> str:
    """Identifies the start. A user's module goes by name: its head may be random each time."""
    own = not classifier.architecture.startswith("timm:")
    return classifier.name if own else classifier.digest


def val_gap_note(dataset: Dataset) -> str | None:
    """A warning about classes without val images; None if val has all classes, or is empty."""
    counts = dataset.counts("val")
    missing = [name for name, images in counts.items() if not images]
    if not missing or len(missing) == len(counts):
        return None
    names = listed(missing)
    return (
        f"Val has no images of {count(len(missing), 'class', 'classes')} ({names}), so they do not "
        "count when the best epoch is chosen. Add some to val, or raise clean.val."
    )


def make_objective(settings: FineTune, dataset: Dataset) -> Objective:
    """Builds the loss with label smoothing, logit adjustment and label weights.

    Args:
        settings: Loss, smoothing, balance, label weights.
        dataset: For class frequencies and label scores.

    Returns:
        (logits, loss inputs) to one loss per image.

    Raises:
        RecipeError: `label_weights` is on and no label has a score.
    """
    loss = LOSSES[settings.loss]
    adjusted = settings.balance == "logit_adjustment"
    shares = log_shares(dataset) if adjusted else torch.zeros(())
    trust = label_trust(dataset) if settings.label_weights else None

    def objective(logits: torch.Tensor, loss_inputs: LossInputs) -> torch.Tensor:
        losses = loss(
            logits + shares.to(logits.device), loss_inputs.targets, settings.label_smoothing
        )
        if trust is None:
            return losses
        return losses * trust[torch.from_numpy(loss_inputs.rows)].to(losses.device)

    return objective
