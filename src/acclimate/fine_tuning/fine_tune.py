"""The stage: a pretrained classifier learns the user's classes."""

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
from acclimate.fine_tuning.auto_freeze import choose_trained
from acclimate.fine_tuning.class_incremental import (
    class_increment_of,
    from_class_statistics,
    rehearsal_settings,
)
from acclimate.fine_tuning.forgetting import with_forgetting_report
from acclimate.fine_tuning.head_init import with_fitted_head
from acclimate.fine_tuning.settings import FineTune
from acclimate.fine_tuning.stochastic_depth import stochastic
from acclimate.fine_tuning.trainable_layers import Question, freeze_layers
from acclimate.models.adapters import constrain, merge
from acclimate.models.classifier import Classifier
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
    """Trains a classifier from a fitted head: all layers, the deeper the faster, or some of them.

    Where the classifier does not know the data's classes yet, its head is first fitted on frozen
    features (`probe`; Kumar et al. 2022, "LP-FT"); with `keep_classes` they are added to those
    that it knows (`training.growth`). What is not to be trained stays as it was, bit
    for bit; adapters are merged into the weights in the end. The weights that were best on val
    are kept, the start included, so the result is never below the probe there.

    Args:
        classifier: Pretrained, or one that knows these classes already.
        dataset: Cleaned and split.
        policy: Augmentation; the default one when None.
        settings: Epochs, rate and the rest.
        context: Seed, device, workspace, progress.
        optimizer: From Python only: parameter groups to an optimizer, in place of a name.
        epoch_callback: Asked after each epoch whether to go on.

    Returns:
        A new classifier; the given one is unchanged.

    Raises:
        DataError: The data cannot be learnt from.
        RecipeError: Settings do not fit the data, or the training diverges.
    """
    began = time.monotonic()
    growth = class_increment_of(classifier, dataset, settings) if settings.keep_classes else None
    if growth is None:
        check_trainable(dataset)
    elif growth.absent:
        return from_class_statistics(growth, settings, context)
    else:
        dataset, settings = growth.dataset, rehearsal_settings(growth, settings, context)
    session = Session("fine_tune", settings, len(dataset.rows("train")), context, began=began)
    if unjudged := without_val(dataset):
        context.progress.info(unjudged)
    sizes = _sizes(settings, classifier, session.plan)
    objective = make_objective(settings, dataset)
    start = with_fitted_head(classifier, dataset, settings.head, context)
    views = TrainingImages(dataset, policy or choose_policy(), start.contract, context, sizes=sizes)
    ready = prepare(session, settings, start, views, objective, context)
    settings, network = ready.settings, ready.network
    with stochastic(network, settings.dropout, settings.drop_path) as missing:
        if missing:
            context.progress.info(missing)
        session.find_rate(network, views, objective, optimizer)
        scores = {"scores": dataset.scores_digest} if settings.label_weights else {}
        part = _after_prefix(network, views, session.plan, settings, context)
        fit = session.fit(
            network, part.source if part and part.source else views, objective,
            optimizer=optimizer, epoch_callback=epoch_callback,
            fingerprint={"model": _begun_from(classifier), **scores},
            recorded={"policy": views.policy.as_record()},
        )  # fmt: skip
    merge(fit.network)
    if settings.trainable != "all":
        fit.network.requires_grad_(True)
    frozen = [f"Frozen part: {part.told}."] if part else []
    notes = (
        f"Trained: {ready.learning}.",
        *frozen,
        *fit.step.notes,
        *([unjudged] if unjudged else []),
    )
    step = replace(fit.step, notes=notes)
    made = start.after(step, network=fit.network, dataset=dataset.digest)
    if settings.class_statistics:
        made = with_statistics(made, dataset, context)
    return with_forgetting_report(made, classifier, dataset, context) if growth else made


@dataclass(frozen=True)
class Prepared:
    """A network that is ready to be trained.

    Attributes:
        settings: Without "auto" for what is trained.
        network: A copy; what is not trained is frozen.
        learning: Which weights learn, in words.
    """

    settings: FineTune
    network: nn.Module
    learning: str


def _sizes(settings: FineTune, classifier: Classifier, plan: TrainPlan) -> tuple[int, ...]:
    """Side in px of the training images in each epoch; empty where they do not grow."""
    if settings.start_size is None:
        return ()
    if plan.max_minutes is not None:
        raise RecipeError(
            "start_size grows with the epochs, and minutes leave their number open.",
            where="start_size",
            hint="Give epochs in place of minutes.",
        )
    return growing_sizes(settings.start_size, classifier.contract.image_size, plan.epochs)


def prepare(
    session: Session,
    settings: FineTune,
    start: Classifier,
    views: TrainingImages,
    objective: Objective,
    context: Context,
) -> Prepared:
    """Decides which weights learn, and copies the network with the others frozen.

    Args:
        session: Of the training; takes note of the decision.
        settings: Of fine-tuning.
        start: With a fitted head; unchanged.
        views: The images.
        objective: The loss.
        context: Seed, workspace, progress.

    Returns:
        The settings without "auto" for what is trained, the network, and what learns in words.

    Raises:
        RecipeError: The choice cannot be made here, or an image size does not fit the network.
    """
    if settings.trainable == "auto":
        choice = choose_trained(start.module(), views, objective, session.time_left, context)
        settings = choice.applied(settings)
        session.decide(settings, "trainable", choice.reason)
    network = copy.deepcopy(start.module())
    constrain(network)
    learning = freeze_layers(network, Question(settings, views, context))
    if settings.trainable != "all":
        context.progress.info(f"trainable: {learning}")
    if views.sizes:
        check_sizes(network, views.sizes, start.name)
        shown = ", ".join(f"{size} px" for size in views.sizes)
        context.progress.info(f"image sizes by epoch: {shown}")
    return Prepared(settings, network, learning)


def _after_prefix(
    network: nn.Module, views: TrainingImages, plan: TrainPlan, settings: FineTune, context: Context
) -> FrozenPart | None:
    """What becomes of the frozen first part; None where there is none."""
    if settings.trainable in ("all", "lora"):
        return None
    return frozen_prefix(network, views, plan, settings.prefix_views, context)


def _begun_from(classifier: Classifier) -> str:
    """Stands for a model: a module's head, which is replaced, may be random each time."""
    own = not classifier.architecture.startswith("timm:")
    return classifier.name if own else classifier.digest


def without_val(dataset: Dataset) -> str | None:
    """What is to be said of classes that val does not hold; None where it holds all, or is none."""
    counts = dataset.counts("val")
    missing = [name for name, images in counts.items() if not images]
    if not missing or len(missing) == len(counts):
        return None
    names = listed(missing)
    return (
        f"Val has no images of {count(len(missing), 'class', 'classes')} ({names}): which epoch is "
        "best is chosen without them; add some to val, or raise clean.val."
    )


def make_objective(settings: FineTune, dataset: Dataset) -> Objective:
    """The loss with all that the settings put around it.

    Args:
        settings: Loss, smoothing, balance, label weights.
        dataset: For the classes' shares and the labels' scores.

    Returns:
        (logits, loss inputs) to one loss per image.

    Raises:
        RecipeError: Label weights are asked for and no label has a score.
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
