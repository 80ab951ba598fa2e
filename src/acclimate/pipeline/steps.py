"""The main job's steps: which, and in what order."""

from dataclasses import dataclass, replace

from acclimate.errors import RecipeError, near_names
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
        also: Another slot that the result fills, for later.
    """

    name: str
    stage: str
    reads: tuple[str, ...]
    writes: str
    label: str | None = None
    also: str | None = None


STEPS: tuple[Step, ...] = (
    Step("clean", "clean", ("listing",), "dataset"),
    Step("inspect", "inspect", ("pretrained", "dataset"), "dataset"),
    Step("probe", "probe", ("pretrained", "dataset"), "classifier", also="start"),
    Step("augment", "augment", ("start", "dataset"), "policy"),
    Step("fine-tune", "fine-tune", ("classifier", "dataset", "policy"), "classifier", also="tuned"),
    Step("distill", "distill", ("classifier", "dataset", "policy"), "classifier"),
    Step("prune", "prune", ("classifier", "dataset", "policy"), "classifier"),
    Step("quantize", "quantize", ("classifier", "dataset", "policy"), "classifier"),
    Step("export", "export", ("classifier", "dataset"), "classifier"),
    Step("evaluate-probe", "evaluate", ("start", "dataset"), "start_evaluation", "probe"),
    Step("evaluate-tuned", "evaluate", ("tuned", "dataset"), "tuned_evaluation", "fine-tuned"),
    Step("evaluate-final", "evaluate", ("classifier", "dataset"), "evaluation", "final"),
    Step("compare-probe", "compare", ("start_evaluation", "evaluation"), "gain"),
    Step("compare-tuned", "compare", ("tuned_evaluation", "evaluation"), "cost"),
)
"""The main job, read from top to bottom. A section that is null leaves its slot as it was."""


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
    steps = []
    for step in STEPS:
        if step.name == "export" and recipe.quantize is not None:
            continue  # quantize exports what it starts from
        if getattr(recipe, STAGES[step.stage].section) is None:
            continue
        if step.name == "fine-tune" and recipe.fine_tune and recipe.fine_tune.keep_classes:
            # It goes on from what the model knows, and not from a head for the data's classes.
            step = replace(step, reads=("pretrained", *step.reads[1:]))
        steps.append(step)
    names = [step.name for step in steps]
    if until is not None:
        if until not in names:
            raise RecipeError(f"no step {until!r}. {near_names(until, names)}", where="--until")
        steps = steps[: names.index(until) + 1]
    if recipe.fine_tune is None:
        steps = [s for s in steps if "tuned" not in s.name or s.name == "fine-tune"]
    return steps
