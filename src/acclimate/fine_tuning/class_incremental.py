"""Class-incremental learning: adds the data's classes to those that a model knows.

If there are images of every old class, the model is trained on old and new images (rehearsal).
Otherwise the backbone stays frozen and the head is computed from class statistics: those stored
with the model, and those of the new images. Distilling the old model into the new one on new images
alone (Li and Hoiem 2016, "Learning without Forgetting", arXiv 1606.09282) was tried and dropped: on
digits it kept an accuracy of 0.003 on the old classes, statistics kept 0.978; see
benchmarks/RESULTS.md.
"""

from dataclasses import dataclass, replace
from typing import cast

from acclimate.context import Context, process_count
from acclimate.data.dataset import Dataset
from acclimate.errors import ModelFileError, RecipeError, count, listed
from acclimate.features.discriminant import class_statistics, fit_discriminant
from acclimate.features.probe import check_trainable
from acclimate.fine_tuning.forgetting import with_forgetting_report
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.class_statistics import ClassStatistics
from acclimate.models.classifier import Classifier, StepRecord, plain
from acclimate.models.heads import head_kind
from acclimate.models.structure import with_head

_WHERE = "keep_classes"
_SHOWN = 3
_ENOUGH = 10
"""Training images of an old class that rehearsal needs. On digits rehearsal and class statistics
kept the old classes about equally well with 5 images; rehearsal was better with 20."""
_FEW = 0.5
"""Share of the largest new class: an old class with fewer images is shown more often."""


@dataclass(frozen=True)
class ClassIncrement:
    """A classifier and the classes that are added to it.

    Attributes:
        before: The classifier.
        dataset: The images; its classes are those of the classifier, then the new ones.
        added: The new classes.
        absent: Classes of the classifier with no training images, or too few.
        given: The data as it was given.
    """

    before: Classifier
    dataset: Dataset
    added: tuple[str, ...]
    absent: tuple[str, ...]
    given: Dataset


def class_increment_of(
    classifier: Classifier, dataset: Dataset, settings: FineTune
) -> ClassIncrement:
    """Finds out which classes are old and which are new.

    Args:
        classifier: Fine-tuned before.
        dataset: Images of the new classes, and of any old ones.
        settings: Settings of fine-tuning.

    Returns:
        The classifier and the classes that are added.

    Raises:
        RecipeError: There is no class to keep or to add, or two names differ in case only.
        ModelFileError: Images of old classes are needed and there are none.
        DataError: The data cannot be used for training.
    """
    network = classifier.module()
    if not classifier.card.steps:
        raise RecipeError(
            f"{classifier.name} was never fine-tuned, so it has no classes to keep.",
            where=_WHERE,
            hint="Leave keep_classes out.",
        )
    added = tuple(name for name in dataset.classes if name not in classifier.classes)
    _check_names(classifier, added)
    found = replace(dataset, classes=(*classifier.classes, *added))
    counts = found.counts("train")
    limit = _ENOUGH if added and _has_statistics(classifier) else 1
    absent = tuple(name for name in classifier.classes if counts[name] < limit)
    if absent and not added:
        raise RecipeError(
            f"the data has no new class, and no images of {_list_classes(absent)}.",
            where=_WHERE,
            hint="Add images of these classes, or leave keep_classes out to train on the data's "
            "classes only.",
        )
    if process_count() > 1:
        raise RecipeError(
            "keep_classes runs in one process.", where=_WHERE, hint="Start it without torchrun."
        )
    if settings.head not in ("auto", head_kind(network)):
        raise RecipeError(
            f"the model has a {head_kind(network)} head, and keep_classes keeps its kind.",
            where="head",
            hint="Leave it at auto.",
        )
    if absent:
        _check_absent(classifier, absent)
        _check_new(dataset, added)
    else:
        check_trainable(found)
    return ClassIncrement(classifier, found, added, absent, dataset)


def _check_names(classifier: Classifier, added: tuple[str, ...]) -> None:
    """Refuses two spellings of one class, which would become two classes."""
    known_names = {name.strip().casefold(): name for name in classifier.classes}
    for name in added:
        known = known_names.get(name.strip().casefold())
        if known is not None:
            raise RecipeError(
                f"the data has the class {name!r} and the model has {known!r}.",
                where=_WHERE,
                hint=f"Rename it to {known!r} if it is the same class, or to a clearly different "
                "name.",
            )


def _has_statistics(classifier: Classifier) -> bool:
    """Whether a head can be computed from statistics; a cosine head cannot."""
    return classifier.statistics is not None and head_kind(classifier.module()) != "cosine"


def _check_absent(classifier: Classifier, absent: tuple[str, ...]) -> None:
    if classifier.statistics is None:
        raise ModelFileError(
            f"the data has no training images of {_list_classes(absent)}, and the model has no "
            "class statistics of them.",
            where=classifier.name,
            hint="Add images of them, or fine-tune the old classes again with class_statistics.",
        )
    if head_kind(classifier.module()) == "cosine":
        raise ModelFileError(
            f"the data has no training images of {_list_classes(absent)}, which a cosine head "
            "needs.",
            where=classifier.name,
            hint="Add images of them.",
        )


def _check_new(dataset: Dataset, added: tuple[str, ...]) -> None:
    """Refuses a new class without training images."""
    counts = dataset.counts("train")
    empty = tuple(name for name in added if not counts[name])
    if empty:
        raise RecipeError(
            f"the data has no training images of {_list_classes(empty)}.",
            where=dataset.shown_root,
            hint="Add some to train, or leave the class out with "
            "--set data.leave_out_classes=[...].",
        )


def from_class_statistics(
    increment: ClassIncrement, settings: FineTune, context: Context
) -> Classifier:
    """Adds classes if some of the old ones have no images: computes the head from statistics.

    The backbone does not change, so the statistics of the old classes stay valid.

    Args:
        increment: The classifier and the classes that are added.
        settings: Settings of fine-tuning, for the card.
        context: Seed, device, progress.

    Returns:
        The classifier.
    """
    description = (
        f"the head only, from class statistics: there are fewer than {_ENOUGH} training images of "
        f"{_list_classes(increment.absent)}"
    )
    context.progress.info(
        f"trained: {description}; epochs, learning rate and augmentation are not used"
    )
    before, dataset = increment.before, increment.dataset
    known = cast("ClassStatistics", before.statistics)  # without them `class_increment_of` refuses
    fresh = class_statistics(before, dataset, dataset.rows("train"), context)
    statistics = known.with_more_classes(len(dataset.classes)).merged(fresh)
    made = before.after(
        StepRecord("fine_tune", plain(settings), {}, (f"Trained: {description}.",)),
        trained_on=increment.given,
        network=with_head(before.module(), fit_discriminant(statistics)).eval(),
        classes=dataset.classes,
        statistics=statistics,
    )
    return with_forgetting_report(made, before, dataset, context)


def rehearsal_settings(increment: ClassIncrement, settings: FineTune, context: Context) -> FineTune:
    """The settings for training on old and new images; balances the classes if few are old.

    Args:
        increment: The classifier and the classes that are added.
        settings: Settings of fine-tuning, as given.
        context: Progress.

    Returns:
        The settings.
    """
    counts = increment.dataset.counts("train")
    fewest = min(counts[name] for name in increment.before.classes)
    most = max(counts[name] for name in increment.added) if increment.added else 0
    # A head from class statistics is a bad start: the features move away while training (train
    # loss of 5 on digits). So a head of the model's kind is fitted to all images.
    settings = settings.model_copy(update={"head": head_kind(increment.before.module())})
    if settings.balance != "none" or fewest >= _FEW * most:
        return settings
    context.progress.info(
        f"balance: sampling, since an old class has {count(fewest, 'image')} and a new one {most}"
    )
    return settings.model_copy(update={"balance": "sampling"})


def _list_classes(names: tuple[str, ...]) -> str:
    """The number of classes and a few of their names."""
    return f"{count(len(names), 'class', 'classes')} ({listed(names, _SHOWN)})"
