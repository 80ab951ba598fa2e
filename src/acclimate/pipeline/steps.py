"""The steps of the main job: which ones, and in what order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from acclimate.errors import DataError, RecipeError, count, near_names
from acclimate.pipeline.artifacts import Slot
from acclimate.pipeline.stages import STAGES
from acclimate.recipe import Recipe


@dataclass(frozen=True)
class Step:
    """One use of a stage in the main job.

    Attributes:
        name: Of its folder.
        stage: A name in `STAGES`.
        reads: Slots, in the order of the stage's arguments.
        writes: The slot it fills.
        label: Passed as `name=` to the stage, for tables.
        also: Another slot that the result fills, for later steps.
        only_if: Whether a recipe whose section for the stage is on has this step.
        leave_out: Called with the recipe and all slots before the step. It returns the reason if
            the step would change nothing, or None.
        check: Called with the recipe and all slots when the step is done. It raises an error if a
            later step cannot work, before hours of training are spent.
    """

    name: str
    stage: str
    reads: tuple[str, ...]
    writes: str
    label: str | None = None
    also: str | None = None
    only_if: Callable[[Recipe], bool] = lambda _: True
    leave_out: Callable[[Recipe, Mapping[str, Slot]], str | None] | None = None
    check: Callable[[Recipe, Mapping[str, Slot]], None] | None = None


def _keeps_classes(recipe: Recipe) -> bool:
    return recipe.fine_tune is not None and recipe.fine_tune.keep_classes


def _tunes(recipe: Recipe) -> bool:
    return recipe.fine_tune is not None


def _check_dataset(recipe: Recipe, slots: Mapping[str, Slot]) -> None:
    """Raises an error if there are no images to evaluate on, or compression would lose classes."""
    dataset, split = slots["dataset"].load(), recipe.evaluate.split
    if not len(dataset.rows(split)):
        raise DataError(
            f"there are no images in the {split} split to evaluate on.",
            where=recipe.data.path,
            hint="Add some, or set clean.test above 0, or evaluate.split to val.",
        )
    if split == "test" and not recipe.evaluate.include_training:
        _check_test_unused(recipe, slots)
    if _keeps_classes(recipe):
        _check_classes_kept(recipe, slots)


def _check_test_unused(recipe: Recipe, slots: Mapping[str, Slot]) -> None:
    """Refuses a model that was made with all test images: nothing could be measured in the end."""
    from acclimate.evaluation.evaluate import roles_of_images

    dataset, model = slots["dataset"].load(), slots["pretrained"].load()
    roles = roles_of_images(model, dataset, dataset.rows("test"), known=dataset.digest)
    if roles.all():
        raise DataError(
            f"the given model was made with all {count(len(roles), 'test image')}, so nothing "
            "can be measured on them.",
            where=recipe.data.path,
            hint="Keep the splits that the model was trained with, give other test images, or "
            "set evaluate.include_training for figures that are too high.",
        )


def _check_classes_kept(recipe: Recipe, slots: Mapping[str, Slot]) -> None:
    """Distilling and pruning train on the data's images only: all other classes would be lost."""
    from acclimate.fine_tuning.class_incremental import class_increment_of

    assert recipe.fine_tune is not None
    model, dataset = slots["pretrained"].load(), slots["dataset"].load()
    absent = class_increment_of(model, dataset, recipe.fine_tune).absent
    later = [name for name in ("distill", "prune") if getattr(recipe, name) is not None]
    without = {name: f"--set {name}=null" for name in later}
    if recipe.compress is not None and set(recipe.compress.allow) - {"quantize"}:
        without["compress"] = "--set compress.allow=quantize"
    if absent and without:
        first = next(iter(without))
        raise RecipeError(
            f"data has too few training images of {count(len(absent), 'class', 'classes')} that "
            f"fine_tune.keep_classes keeps ({absent[0]!r} is one), and {first} would unlearn them.",
            where=first,
            hint=f"Add images of them, or give {' '.join(without.values())}.",
        )


def _student_is_teacher(recipe: Recipe, slots: Mapping[str, Slot]) -> str | None:
    from acclimate.distillation.distill import is_own_student

    assert recipe.distill is not None
    if recipe.distill.unlabelled or not is_own_student(slots["classifier"].load(), recipe.distill):
        return None
    return "teacher and student are the same network"


_TRAINED = ("dataset", "policy")

STEPS: tuple[Step, ...] = (
    Step("clean", "clean", ("listing",), "dataset", check=_check_dataset),
    Step("inspect", "inspect", ("pretrained", "dataset"), "dataset"),
    Step("probe", "probe", ("pretrained", "dataset"), "classifier", also="start"),
    Step("augment", "augment", ("start", "dataset"), "policy"),
    Step(
        "fine-tune", "fine-tune", ("classifier", *_TRAINED), "classifier", also="tuned",
        only_if=lambda recipe: not _keeps_classes(recipe),
    ),
    Step(  # with all classes that the model knows, and not with a head for the data's classes
        "fine-tune", "fine-tune", ("pretrained", *_TRAINED), "classifier", also="tuned",
        only_if=_keeps_classes,
    ),
    Step(
        "distill", "distill", ("classifier", *_TRAINED), "classifier",
        leave_out=_student_is_teacher,
    ),
    Step("prune", "prune", ("classifier", *_TRAINED), "classifier"),
    Step("quantize", "quantize", ("classifier", *_TRAINED), "classifier"),
    Step("compress", "compress", ("classifier", *_TRAINED), "classifier"),
    Step(  # quantize and compress export the model that they start from
        "export", "export", ("classifier", "dataset"), "classifier",
        only_if=lambda recipe: recipe.quantize is None and recipe.compress is None,
    ),
    Step("evaluate-probe", "evaluate", ("start", "dataset"), "start_evaluation", "probe"),
    Step(
        "evaluate-tuned", "evaluate", ("tuned", "dataset"), "tuned_evaluation", "fine-tuned",
        only_if=_tunes,
    ),
    Step("evaluate-final", "evaluate", ("classifier", "dataset"), "evaluation", "final"),
    Step("compare-probe", "compare", ("start_evaluation", "evaluation"), "gain"),
    Step("compare-tuned", "compare", ("tuned_evaluation", "evaluation"), "cost", only_if=_tunes),
)  # fmt: skip
"""The main job, from top to bottom. A section that is null leaves its slot as it was."""


def chosen(recipe: Recipe, until: str | None) -> list[Step]:
    """The steps whose sections are on.

    Args:
        recipe: What to do.
        until: The last step; None for all.

    Returns:
        The steps, in order.

    Raises:
        RecipeError: There is no data, or no such step.
    """
    if recipe.data.path is None:
        raise RecipeError(
            "there is no data.", where="data.path", hint="Give a folder with --data photos/."
        )
    steps = [
        step
        for step in STEPS
        if getattr(recipe, STAGES[step.stage].section) is not None and step.only_if(recipe)
    ]
    names = [step.name for step in steps]
    if until is None:
        return steps
    if until not in names:
        raise RecipeError(f"no step {until!r}. {near_names(until, names)}", where="--until")
    return steps[: names.index(until) + 1]
