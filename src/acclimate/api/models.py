"""The Python functions for finished models, under the names of their commands."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acclimate.api.inputs import (
    AnyData,
    as_context,
    as_dataset,
    as_evaluation_data,
    as_model,
)
from acclimate.arguments import checked
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract
from acclimate.data.images.given import AnyImages, batched, images_of, pixels_of
from acclimate.evaluation.comparison import Comparison
from acclimate.evaluation.comparison import compare as _compare
from acclimate.evaluation.evaluate import Evaluation
from acclimate.evaluation.evaluate import evaluate as _evaluate
from acclimate.evaluation.settings import Compare, Evaluate
from acclimate.features.extract import extract, feature_size, load_backbone
from acclimate.files import AnyPath
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import export as _export
from acclimate.models.onnx.export import from_onnx
from acclimate.models.predictions import Prediction
from acclimate.models.settings import Export, OnnxFile
from acclimate.progress import Progress
from acclimate.registry.resolve import AnyModel, as_classifier
from acclimate.serving.predict import predict as _predict
from acclimate.settings import from_keywords


@checked
def read_onnx(
    path: AnyPath,
    **settings: Any,  # noqa: ANN401 - fields of OnnxFile
) -> Classifier:
    """Reads an ONNX file as a classifier; see `acclimate.models.onnx.export.from_onnx`.

    Args:
        path: The file, of any maker.
        **settings: Fields of `OnnxFile`: classes and input contract. Without any they are read
            from the file, or from the file beside it.

    Returns:
        The classifier: it can be evaluated, compared, registered, and used as a teacher.

    Example:
        >>> model = acclimate.read_onnx("leaf.model/model.onnx")
        >>> model.classes
        ('one', 'seven')
    """
    return from_onnx(Path(path), from_keywords(OnnxFile, settings) if settings else None)


@checked
def export(
    model: AnyModel,
    data: AnyData,
    *,
    allow_outside: bool = False,
    device: str | None = None,
    seed: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Export
) -> Classifier:
    """Exports a model to ONNX, checked on real images; see `acclimate.models.onnx.export.export`.

    Args:
        model: A model with a PyTorch network.
        data: Folder, list or data set: the graph is compared with PyTorch on its images.
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
        context: Device, progress.
        progress: Receives messages and progress, in place of the context's.
        **settings: Fields of `Export`.

    Returns:
        The classifier with its graph, which `save` writes as `model.onnx`.

    Example:
        >>> model = acclimate.export("leaf.model", "photos/")
        >>> model.save(Path("exported.model"))
        >>> Path("exported.model/model.onnx").is_file()
        True
    """
    here = as_context(context, device=device, seed=seed, progress=progress)
    made = from_keywords(Export, settings)
    start = as_model(model, context=here)
    dataset = as_dataset(data, allow_outside=allow_outside, context=here)
    return _export(start, dataset, made, context=here)


@checked
def evaluate(
    model: AnyModel,
    data: AnyData,
    *,
    name: str | None = None,
    allow_outside: bool = False,
    device: str | None = None,
    seed: int | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
    **settings: Any,  # noqa: ANN401 - fields of Evaluate
) -> Evaluation:
    """Measures a model on the test images; see `acclimate.evaluation.evaluate.evaluate`.

    Args:
        model: A model of the data's classes.
        data: Folder, list or data set; images without a split are all test images.
        name: The name in tables.
        allow_outside: Whether links and listed paths may lead out of the data's folder.
        device: "auto", "cpu", "cuda", …; None is the context's.
        seed: Random seed; None is the context's.
        context: Seed, device, progress.
        progress: Receives messages and progress, in place of the context's.
        **settings: Fields of `Evaluate`.

    Returns:
        The evaluation: metrics with intervals, latency, size.

    Example:
        >>> evaluation = acclimate.evaluate("leaf.model", "photos/", latency=False)
        >>> evaluation.metrics["home"]["accuracy"].value > 0.5
        True
    """
    here = as_context(context, device=device, seed=seed, progress=progress)
    made = from_keywords(Evaluate, settings)
    dataset = as_evaluation_data(data, allow_outside=allow_outside, context=here)
    start = as_model(model, context=here)
    return _evaluate(start, dataset, made, context=here, name=name)


@checked
def compare(
    before: Evaluation | AnyPath,
    after: Evaluation | AnyPath,
    **settings: Any,  # noqa: ANN401 - fields of Compare
) -> Comparison:
    """Compares two evaluations on the same images; see `acclimate.evaluation.comparison.compare`.

    Args:
        before: The evaluation of the champion, or its folder.
        after: The evaluation of the challenger, or its folder.
        **settings: Fields of `Compare`.

    Returns:
        The comparison.

    Example:
        >>> before = acclimate.evaluate("leaf.model", "photos/", latency=False)
        >>> acclimate.compare(before, before, margin=20).verdict
        'as good'
    """
    loaded = [e if isinstance(e, Evaluation) else Evaluation.load(Path(e)) for e in (before, after)]
    return _compare(loaded[0], loaded[1], from_keywords(Compare, settings))


@checked
def predict(
    model: AnyModel,
    images: AnyImages,
    *,
    top: int = 1,
    tta: bool = False,
    device: str = "auto",
) -> list[Prediction]:
    """Classifies one image or many, in whatever form they are.

    Args:
        model: Name, folder, file or classifier. A classifier keeps the runtime that is opened for
            it: load a model once to predict often.
        images: A path or folder, bytes, a file opened as "rb", a Pillow image, a uint8 array
            (H, W), (H, W, 3) or (B, H, W, 3), a uint8 tensor (3, H, W) or (B, 3, H, W), or any
            list, column, table, generator or data set of these.
        top: How many classes to return for each image, the most probable first.
        tta: Average the probabilities over views that keep the label (test-time augmentation).
        device: "auto", "cpu", "cuda", …

    Returns:
        One prediction for each image, in order. An unreadable image has an `error`.

    Raises:
        DataError: There is no such file or folder, or an array is not an image.

    Example:
        >>> [prediction] = acclimate.predict("leaf.model", "photo.jpg", top=2)
        >>> sorted(prediction.classes)
        ['one', 'seven']
    """
    here = Context(device=device)
    found = _predict(as_classifier(model), images_of(images), top=top, tta=tta, context=here)
    return list(found)


@checked
def extract_features(
    model: AnyModel,
    images: AnyImages,
    *,
    contract: InputContract | None = None,
    image_size: int | None = None,
    weights: AnyPath | None = None,
    device: str | None = None,
    context: Context | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Computes the features of a model's backbone: the input of its head.

    Args:
        model: Name, folder, classifier or module.
        images: As for `predict`. Features of a `Dataset` are kept in the cache.
        contract: Input size and normalization of a module.
        image_size: Input size in px; None is the model's own.
        weights: A file with weights of the architecture that `model` names.
        device: "auto", "cpu", "cuda", …; None is the context's.
        context: Device, progress, cache.
        progress: Receives messages and progress, in place of the context's.

    Returns:
        float32, (N, D), one row for each image, in order; of a data set for each kept one.

    Raises:
        UnreadableImage: An image cannot be read.

    Example:
        >>> acclimate.extract_features("leaf.model", "photo.jpg").shape
        (1, 256)
    """
    here = as_context(context, device=device, progress=progress)
    start = as_model(model, weights=weights, contract=contract, image_size=image_size, context=here)
    if isinstance(images, Dataset):
        return extract(start, images, images.rows(domain=None), here)
    run = load_backbone(start, here)
    found = [np.empty((0, feature_size(start)), np.float32)]
    for chunk in batched(images_of(images), 32):
        found.append(run(np.stack([pixels_of(image, start.contract) for image in chunk])))
    return np.concatenate(found)
