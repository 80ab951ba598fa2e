"""Runs the range test on a classifier and data, from the start of fine-tuning."""

import time

from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.features.probe import check_trainable
from acclimate.fine_tuning.fine_tune import make_objective, prepare
from acclimate.fine_tuning.head_init import with_fitted_head
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.training.batches.training_images import TrainingImages
from acclimate.training.lr_finder import RateCurve, range_test
from acclimate.training.session import Session

_DEFAULT = FineTune()
_HERE = Context()


def find_rate(
    classifier: Classifier,
    dataset: Dataset,
    policy: Policy | None = None,
    settings: FineTune = _DEFAULT,
    *,
    context: Context = _HERE,
) -> RateCurve:
    """Finds a learning rate for a classifier and data, by a range test from a fitted head.

    Args:
        classifier: Unchanged.
        dataset: Cleaned and split.
        policy: Augmentation; the default one when None.
        settings: Optimizer, batch size and the rest; its learning rate sets the range.
        context: Seed, device, progress.

    Returns:
        The curve and the suggested rate.

    Raises:
        DataError: The data cannot be used for training.
        RecipeError: Settings do not fit the data.
    """
    began = time.monotonic()
    check_trainable(dataset)
    session = Session("fine_tune", settings, len(dataset.rows("train")), context, began=began)
    start = with_fitted_head(classifier, dataset, settings.head, context)
    images = TrainingImages(dataset, policy or choose_policy(), start.contract, context)
    objective = make_objective(settings, dataset)
    ready = prepare(session, settings, start, images, objective, context)
    return range_test(ready.network, images, objective, session.plan, context=context)
