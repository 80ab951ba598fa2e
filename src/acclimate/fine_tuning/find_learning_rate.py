"""The range test on a classifier and data, as fine-tuning would begin with them."""

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
    """Which learning rate suits a classifier and data, by a range test from a fitted head.

    Args:
        classifier: Unchanged.
        dataset: Cleaned and split.
        policy: Augmentation; the default one when None.
        settings: Optimizer, batch and the rest; its rate only says where the range lies.
        context: Seed, device, progress.

    Returns:
        The curve, and the suggestion.

    Raises:
        DataError: The data cannot be learnt from.
        RecipeError: Settings do not fit the data.
    """
    began = time.monotonic()
    check_trainable(dataset)
    session = Session("fine_tune", settings, len(dataset.rows("train")), context, began=began)
    start = with_fitted_head(classifier, dataset, settings.head, context)
    views = TrainingImages(dataset, policy or choose_policy(), start.contract, context)
    objective = make_objective(settings, dataset)
    ready = prepare(session, settings, start, views, objective, context)
    return range_test(ready.network, views, objective, session.plan, context=context)
