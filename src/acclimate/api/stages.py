"""The front door from Python: the stages under the names they have in the shell.

Models may be given by name, folder, file, or as a `torch.nn.Module`; data by folder, list or
`Dataset`; settings as keywords. `lr` is short for `learning_rate`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from acclimate.api import inputs
from acclimate.api.inputs import AnyData, as_context, as_dataset, to_judge
from acclimate.augmentation.auto_policy import auto_policy as _auto_policy
from acclimate.augmentation.policy import Policy
from acclimate.augmentation.policy import choose_policy as _choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean as _clean
from acclimate.cleaning.settings import Clean
from acclimate.compression.prune import prune as _prune
from acclimate.compression.quantize import quantize as _quantize
from acclimate.compression.settings import Prune, Quantize
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.distillation.distill import distill as _distill
from acclimate.distillation.settings import Distill
from acclimate.errors import RecipeError
from acclimate.evaluation.comparison import Comparison
from acclimate.evaluation.comparison import compare as _compare
from acclimate.evaluation.evaluate import Evaluation
from acclimate.evaluation.evaluate import evaluate as _evaluate
from acclimate.evaluation.settings import Compare, Evaluate
from acclimate.features.probe import probe as _probe
from acclimate.features.settings import Probe
from acclimate.inspection.inspect import inspect as _inspect
from acclimate.inspection.settings import Inspect
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import export as _export
from acclimate.models.onnx.export import from_onnx
from acclimate.models.settings import Export, OnnxFile
from acclimate.progress import Progress, silent
from acclimate.registry.resolve import AnyModel, as_classifier, resized_classifier
from acclimate.serving.predict import Prediction, find_images
from acclimate.serving.predict import predict as _predict
from acclimate.settings import from_keywords


def clean(
    data: AnyData,
    *,
    seed: int = 0,
    progress: Progress = silent,
    leave_out_classes: Iterable[str] = (),
    **settings: Any,  # noqa: ANN401 - fields of Clean
) -> Dataset:
    """Checks every image and splits what has no split; see `acclimate.cleaning.clean.clean`.

    Args:
        data: Folder, CSV or Parquet.
        seed: Of the split.
        progress: Receives what is told.
        leave_out_classes: Class folders to ignore.
        **settings: Fields of `Clean`.

    Returns:
        The data set.
    """
    source = Source(leave_out_classes=tuple(leave_out_classes))
    raw = data if isinstance(data, Dataset) else read(Path(data), source)
    return _clean(
        raw, from_keywords(Clean, settings), context=Context(seed=seed, progress=progress)
    )


def inspect(
    model: AnyModel,
    data: AnyData,
    *,
    contract: InputContract | None = None,
    image_size: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Inspect
) -> Dataset:
    """Flags suspected labels and outliers; see `acclimate.inspection.inspect.inspect`.

    Args:
        model: Name, folder, classifier or module; its backbone looks.
        data: Folder, list or data set.
        contract: What a module expects of pixels.
        image_size: px, when not the model's own.
        context: Seed, device, progress.
        progress: Receives what is told, in place of the context's.
        **settings: Fields of `Inspect`.

    Returns:
        The data set with scores and flags.
    """
    here = as_context(context, progress=progress)
    start = resized_classifier(model, contract, image_size)
    return _inspect(
        start, as_dataset(data, context=here), from_keywords(Inspect, settings), context=here
    )


def augment(
    model: AnyModel | None = None,
    data: AnyData | None = None,
    *,
    contract: InputContract | None = None,
    image_size: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Augment
) -> Policy:
    """Which augmentations keep the labels of your images true, with the evidence for each.

    Args:
        model: Name, folder, classifier or module, whose backbone judges.
        data: Folder, list or data set. Without model and data nothing is judged: what is left at
            auto is then a gentle policy that mirrors nothing.
        contract: What a module expects of pixels.
        image_size: px, when not the model's own.
        context: Seed, device, progress.
        progress: Receives what is told, in place of the context's.
        **settings: Fields of `Augment`.

    Returns:
        The policy.

    Raises:
        RecipeError: Only one of model and data is given.
    """
    made = from_keywords(Augment, settings)
    if model is None and data is None:
        return _choose_policy(made)
    if model is None or data is None:
        raise RecipeError("a model and data are needed, or neither.", where="augment")
    here = as_context(context, progress=progress)
    classifier = resized_classifier(model, contract, image_size)
    return _auto_policy(classifier, as_dataset(data, context=here), made, context=here)


def probe(
    model: AnyModel,
    data: AnyData,
    *,
    contract: InputContract | None = None,
    image_size: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Probe
) -> Classifier:
    """A linear head on frozen features; see `acclimate.features.probe.probe`.

    Args:
        model: Name, folder, classifier or module.
        data: Folder, list or data set.
        contract: What a module expects of pixels.
        image_size: px, when not the model's own.
        context: Seed, device, progress.
        progress: Receives what is told, in place of the context's.
        **settings: Fields of `Probe`.

    Returns:
        A classifier of the data's classes.
    """
    here = as_context(context, progress=progress)
    start = resized_classifier(model, contract, image_size)
    return _probe(
        start, as_dataset(data, context=here), from_keywords(Probe, settings), context=here
    )


def distill(
    teacher: inputs.AnyTeachers,
    data: AnyData,
    *,
    policy: Policy | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Distill
) -> Classifier:
    """A student of fine-tuned teachers; see `acclimate.distillation.distill.distill`.

    Args:
        teacher: Knows the data's classes: one or several models, or functions from RGB images
            (float32 in [0, 1], (b, 3, S, S)) to logits (b, C).
        data: Folder, list or data set.
        policy: Augmentation.
        context: Seed, device, workspace, progress.
        progress: Receives what is told, in place of the context's.
        **settings: Fields of `Distill`; `student` may be a classifier too.

    Returns:
        The student.
    """
    start = settings.get("student")
    if isinstance(start, Classifier):
        settings["student"] = start.name
    own = start if isinstance(start, Classifier) else None
    made, here = from_keywords(Distill, settings), as_context(context, progress=progress)
    dataset = as_dataset(data, context=here)
    return _distill(inputs.as_teachers(teacher), dataset, policy, made, context=here, start=own)


def prune(
    model: AnyModel,
    data: AnyData,
    *,
    policy: Policy | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Prune
) -> Classifier:
    """A model with fewer channels, or the same one with the reason; see `compression.prune`.

    Args:
        model: Knows the data's classes.
        data: Folder, list or data set.
        policy: Augmentation while recovering.
        context: Seed, device, workspace, progress.
        progress: Receives what is told, in place of the context's.
        **settings: Fields of `Prune`.

    Returns:
        The classifier.
    """
    here = as_context(context, progress=progress)
    made = from_keywords(Prune, settings)
    return _prune(as_classifier(model), as_dataset(data, context=here), policy, made, context=here)


def quantize(
    model: AnyModel,
    data: AnyData,
    *,
    policy: Policy | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Quantize
) -> Classifier:
    """An int8 model, or the float one with the reason; see `acclimate.compression.quantize`.

    Args:
        model: Knows the data's classes.
        data: Folder, list or data set.
        policy: Augmentation while recovering.
        context: Seed, device, workspace, progress.
        progress: Receives what is told, in place of the context's.
        **settings: Fields of `Quantize`.

    Returns:
        The classifier with its ONNX graph.
    """
    here = as_context(context, progress=progress)
    made = from_keywords(Quantize, settings)
    found = as_dataset(data, context=here)
    return _quantize(as_classifier(model), found, policy, made, context=here)


def read_onnx(
    path: str | Path,
    **settings: Any,  # noqa: ANN401 - fields of OnnxFile
) -> Classifier:
    """Anybody's ONNX file as a classifier; see `acclimate.models.onnx.export.from_onnx`.

    Args:
        path: The file.
        **settings: Fields of `OnnxFile`: what the file does not say of itself. Without any, what
            stands in it or beside it.

    Returns:
        The classifier, to be evaluated, compared, registered, or to teach.
    """
    return from_onnx(Path(path), from_keywords(OnnxFile, settings) if settings else None)


def export(
    model: AnyModel,
    data: AnyData,
    *,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Export
) -> Classifier:
    """A model with its ONNX graph, checked on real images; see `acclimate.models.onnx.export`.

    Args:
        model: With a PyTorch network.
        data: Whose images are the check.
        context: Progress.
        progress: Receives what is told, in place of the context's.
        **settings: Fields of `Export`.

    Returns:
        The classifier; `save` writes `model.onnx`.
    """
    here = as_context(context, progress=progress)
    made = from_keywords(Export, settings)
    return _export(as_classifier(model), as_dataset(data, context=here), made, context=here)


def evaluate(
    model: AnyModel,
    data: AnyData,
    *,
    name: str | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Evaluate
) -> Evaluation:
    """Figures with intervals on the images that judge; see `acclimate.evaluation.evaluate`.

    Args:
        model: Knows the data's classes.
        data: Folder, list or data set; what has no split is all test.
        name: For tables.
        context: Seed, device, progress.
        progress: Receives what is told, in place of the context's.
        **settings: Fields of `Evaluate`.

    Returns:
        The evaluation.
    """
    here = as_context(context, progress=progress)
    made = from_keywords(Evaluate, settings)
    dataset = to_judge(data, context=here)
    return _evaluate(as_classifier(model), dataset, made, context=here, name=name)


def compare(
    before: Evaluation | str | Path,
    after: Evaluation | str | Path,
    **settings: Any,  # noqa: ANN401 - fields of Compare
) -> Comparison:
    """Two evaluations side by side; see `acclimate.evaluation.comparison`.

    Args:
        before: Of the champion, or its folder.
        after: Of the challenger, or its folder.
        **settings: Fields of `Compare`.

    Returns:
        The comparison.
    """
    loaded = [e if isinstance(e, Evaluation) else Evaluation.load(Path(e)) for e in (before, after)]
    return _compare(loaded[0], loaded[1], from_keywords(Compare, settings))


def predict(
    model: AnyModel,
    images: str | Path | Iterable[str | Path],
    *,
    top: int = 1,
    tta: bool = False,
    device: str = "auto",
) -> list[Prediction]:
    """What a model says of a file, a folder or a list of files.

    Args:
        model: Any.
        images: File, folder, or paths.
        top: How many classes to name for each.
        tta: Average over views that the model was taught keep the label.
        device: "auto", "cpu", "cuda", …

    Returns:
        One prediction an image.
    """
    if isinstance(images, (str, Path)):
        paths = find_images(Path(images))
    else:
        paths = [Path(image) for image in images]
    here = Context(device=device)
    return list(_predict(as_classifier(model), paths, top=top, tta=tta, context=here))
