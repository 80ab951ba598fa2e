"""Classes that come later: the new ones are learnt, the old ones are kept.

Where images of every old class are at hand they are trained on beside the new ones (rehearsal).
Where they are not, or too few, the backbone stays as it is and the head is made of class
statistics: those that came with the model, and those of the new images. Distilling the old model
into the new one on new images alone (Li and Hoiem 2016, "Learning without Forgetting", arXiv
1606.09282) was tried and dropped: of digits 0.003 of the old classes was left, and 0.978 by
statistics; see benchmarks/RESULTS.md.
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
"""Training images of an old class from which on they are trained on. On digits training and class
statistics kept the old classes about equally well at 5 images, training did better at 20."""
_FEW = 0.5
"""Of the largest class's images: below that an old class is shown more often."""


@dataclass(frozen=True)
class ClassIncrement:
    """A classifier that is to learn more classes.

    Attributes:
        before: As it is now.
        dataset: The images, of its classes in their order and then of the new ones.
        added: The new classes.
        absent: Its own classes of which there are no training images, or too few.
        digest: Of the images, with their own classes.
    """

    before: Classifier
    dataset: Dataset
    added: tuple[str, ...]
    absent: tuple[str, ...]
    digest: str


def class_increment_of(
    classifier: Classifier, dataset: Dataset, settings: FineTune
) -> ClassIncrement:
    """What is old and what is new.

    Args:
        classifier: Fine-tuned before.
        dataset: With images of the new classes, and of any of the old ones.
        settings: Of the training.

    Returns:
        The growth.

    Raises:
        RecipeError: There is nothing to keep, nothing to add, or it cannot be told what is new.
        ModelFileError: Images of old classes are needed and there are none.
        DataError: The images cannot be learnt from.
    """
    network = classifier.module()
    if not classifier.card.steps:
        raise RecipeError(
            f"{classifier.name} has no classes to keep: it was never fine-tuned.",
            where=_WHERE,
            hint="Leave keep_classes out the first time.",
        )
    added = tuple(name for name in dataset.classes if name not in classifier.classes)
    _check_names(classifier, added)
    found = replace(dataset, classes=(*classifier.classes, *added))
    counts = found.counts("train")
    limit = _ENOUGH if added and _has_statistics(classifier) else 1
    absent = tuple(name for name in classifier.classes if counts[name] < limit)
    if absent and not added:
        raise RecipeError(
            f"data has no class that the model does not know, and lacks {_named(absent)}.",
            where=_WHERE,
            hint="Add images of the classes that it lacks, or leave keep_classes out to learn the "
            "data's classes alone.",
        )
    if process_count() > 1:
        raise RecipeError(
            "classes are added in one process.", where=_WHERE, hint="Start it without torchrun."
        )
    if settings.head not in ("auto", head_kind(network)):
        raise RecipeError(
            f"the model has a {head_kind(network)} head, which grows as it is.",
            where="head",
            hint="Leave it at auto.",
        )
    if absent:
        _check_absent(classifier, absent)
        _check_new(dataset, added)
    else:
        check_trainable(found)
    return ClassIncrement(classifier, found, added, absent, dataset.digest)


def _check_names(classifier: Classifier, added: tuple[str, ...]) -> None:
    """Two spellings of one class would be learnt as two that nothing tells apart."""
    plainly = {name.strip().casefold(): name for name in classifier.classes}
    for name in added:
        known = plainly.get(name.strip().casefold())
        if known is not None:
            raise RecipeError(
                f"data has the class {name!r} and the model knows {known!r}.",
                where=_WHERE,
                hint=f"Write it {known!r} if it is that one, or give it a name that differs more.",
            )


def _has_statistics(classifier: Classifier) -> bool:
    """Whether a head can be made of them: directions of one length cannot."""
    return classifier.statistics is not None and head_kind(classifier.module()) != "cosine"


def _check_absent(classifier: Classifier, absent: tuple[str, ...]) -> None:
    if classifier.statistics is None:
        raise ModelFileError(
            f"data has no training images of {_named(absent)}, and the model holds no class "
            "statistics to keep them by.",
            where=classifier.name,
            hint="Add images of them, or fine-tune the old classes again with class_statistics.",
        )
    if head_kind(classifier.module()) == "cosine":
        raise ModelFileError(
            f"data has no training images of {_named(absent)}, and a cosine head cannot be made "
            "without.",
            where=classifier.name,
            hint="Add images of them.",
        )


def _check_new(dataset: Dataset, added: tuple[str, ...]) -> None:
    """Each class of the data has training images, were it the only one."""
    counts = dataset.counts("train")
    empty = tuple(name for name in added if not counts[name])
    if empty:
        raise RecipeError(
            f"data has no training images of {_named(empty)}.",
            where=dataset.root,
            hint="Add some to train, or leave the class out with "
            "--set data.leave_out_classes=[...].",
        )


def from_class_statistics(
    growth: ClassIncrement, settings: FineTune, context: Context
) -> Classifier:
    """The classifier with more classes where some of the old ones have no images.

    Nothing but the head changes: what the features of the old classes are like stays true.

    Args:
        growth: What is old and what is new.
        settings: For the card.
        context: The run.

    Returns:
        The classifier.
    """
    told = (
        f"the head alone, from class statistics: there are fewer than {_ENOUGH} training images of "
        f"{_named(growth.absent)}"
    )
    context.progress.info(f"trained: {told}; epochs, rate and augmentation do not matter")
    before, dataset = growth.before, growth.dataset
    known = cast("ClassStatistics", before.statistics)  # without them `growth_of` refuses
    fresh = class_statistics(before, dataset, dataset.rows("train"), context)
    statistics = known.with_more_classes(len(dataset.classes)).merged(fresh)
    made = before.after(
        StepRecord("fine_tune", plain(settings), {}, (f"Trained: {told}.",)),
        dataset=growth.digest,
        network=with_head(before.module(), fit_discriminant(statistics)).eval(),
        classes=dataset.classes,
        statistics=statistics,
    )
    return with_forgetting_report(made, before, dataset, context)


def rehearsal_settings(growth: ClassIncrement, settings: FineTune, context: Context) -> FineTune:
    """The settings that train on old and new images: classes are balanced where few are old.

    Args:
        growth: What is old and what is new.
        settings: As given.
        context: Hears of a change.

    Returns:
        The settings.
    """
    counts = growth.dataset.counts("train")
    fewest = min(counts[name] for name in growth.before.classes)
    most = max(counts[name] for name in growth.added) if growth.added else 0
    # A head of class statistics is no start: trained features move away under it (digits: a train
    # loss of 5). So a plain one is fitted to all images, of the kind that the model has.
    settings = settings.model_copy(update={"head": head_kind(growth.before.module())})
    if settings.balance != "none" or fewest >= _FEW * most:
        return settings
    context.progress.info(
        f"balance: sampling, since an old class has {count(fewest, 'image')} and a new one {most}"
    )
    return settings.model_copy(update={"balance": "sampling"})


def _named(names: tuple[str, ...]) -> str:
    """A few classes, and how many there are."""
    return f"{count(len(names), 'class', 'classes')} ({listed(names, _SHOWN)})"
