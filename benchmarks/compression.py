"""Compares `compress` with what people do by hand: one static int8 file of ONNX Runtime or NNCF.

EfficientNet-Lite0 is fine-tuned on each data set. Then the float model, ONNX Runtime's own
`quantize_static` (QDQ, per channel, min-max, with 8-bit and with 7-bit weights), NNCF's `quantize`
on the same graph and calibration images, and the models that `quantize` and `compress` choose are
evaluated on the same test images, which nothing else has read. Run it with:

    python benchmarks/compression.py --data photos/ --data waste/ --image-size 96 --epochs 3

`--nncf PYTHON` is the Python of an environment with nncf, onnx and onnxruntime. With `--only-int8`
the search neither prunes nor distils.
"""

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnxruntime.quantization import QuantFormat, QuantType, quant_pre_process, quantize_static

from acclimate.augmentation.policy import choose_policy
from acclimate.cleaning.clean import clean
from acclimate.compression.acceptance import predictions
from acclimate.compression.accuracy_budget import accuracy_drop
from acclimate.compression.activation_ranges import Reader
from acclimate.compression.calibration import calibration_rows
from acclimate.compression.compress import compress
from acclimate.compression.pareto import interval_of
from acclimate.compression.settings import Compress, Quantize
from acclimate.compression.static_int8 import U8S7, quantize_with
from acclimate.context import Context
from acclimate.cpu import has_exact_int8
from acclimate.data.dataset import Dataset
from acclimate.data.images.batches import ordered_batches
from acclimate.data.sources.read import read
from acclimate.evaluation.latency import measure_latency
from acclimate.features.probe import probe
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import export
from acclimate.models.pretrained import pretrained
from acclimate.models.runtime import run_onnx
from acclimate.models.settings import Model
from acclimate.progress import LogProgress


def tested(model: Classifier, dataset: Dataset) -> np.ndarray:
    return predictions(run_onnx(model, "cpu"), model, dataset, dataset.rows("test"))


def by_hand(original: Classifier, images: np.ndarray, place: Path, reduce_range: bool) -> bytes:
    """ONNX Runtime's own quantization, as its documentation has it."""
    (place / "float.onnx").write_bytes(original.graph)
    quant_pre_process(place / "float.onnx", place / "ready.onnx", skip_symbolic_shape=True)
    quantize_static(
        place / "ready.onnx", place / "int8.onnx",
        Reader({"images": batch} for batch in np.split(images, range(32, len(images), 32))),
        quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=reduce_range,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return (place / "int8.onnx").read_bytes()


def of_nncf(python: Path, original: Classifier, images: np.ndarray, place: Path):
    """Name to graph and minutes."""
    (place / "float.onnx").write_bytes(original.graph)
    np.save(place / "images.npy", images)
    script = Path(__file__).with_name("compression_peers.py")
    subprocess.run([python, script, place], check=True, stdout=subprocess.DEVNULL)
    minutes = json.loads((place / "minutes.json").read_text())
    for number, (name, taken) in enumerate(minutes.items()):
        yield name, (place / f"{number}.onnx").read_bytes(), taken


def models(original: Classifier, dataset: Dataset, given: argparse.Namespace, context: Context):
    """Name to model and the minutes that it took."""
    rows = calibration_rows(dataset, 256, context)
    images = np.concatenate(
        [
            original.contract.normalize(batch.images)
            for batch in ordered_batches(dataset, rows, original.contract)
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, reduce_range in (("U8S8", False), ("7-bit weights", True)):
            began = time.monotonic()
            graph = by_hand(original, images, Path(folder), reduce_range)
            made = replace(original, graph=graph, network=None)
            yield f"ONNX Runtime, {name}", made, (time.monotonic() - began) / 60
        if given.nncf:
            for name, graph, minutes in of_nncf(given.nncf, original, images, Path(folder)):
                yield name, replace(original, graph=graph, network=None), minutes
    began = time.monotonic()
    graph = quantize_with(original, dataset, rows, Quantize(), U8S7)
    made = replace(original, graph=graph, network=None)
    yield "acclimate, 7-bit weights", made, (time.monotonic() - began) / 60
    for name, allow in (("compress, int8 only", ("quantize",)), ("compress", None)):
        if allow is None and given.only_int8:
            return
        began = time.monotonic()
        settings = Compress(max_accuracy_drop=given.budget, **({"allow": allow} if allow else {}))
        made = compress(original, dataset, choose_policy(), settings, context=context)
        yield name, made, (time.monotonic() - began) / 60


def compare(data: Path, given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        context = Context(cache=Path(folder) / "cache", progress=LogProgress())
        dataset = clean(read(data), context=context)
        start = probe(pretrained(Model(image_size=given.image_size)), dataset, context=context)
        tuned = fine_tune(start, dataset, None, FineTune(epochs=given.epochs), context=context)
        original = export(tuned, dataset, context=context)
        labels = dataset.labels[dataset.rows("test")]
        before = tested(original, dataset)
        line = {"data": data.name, "test_images": len(labels), "exact_int8": has_exact_int8()}
        line["accuracy"] = round(float((before == labels).mean()), 4)
        print(json.dumps(line), flush=True)
        for name, model, minutes in models(original, dataset, given, context):
            drop = accuracy_drop(labels, before, tested(model, dataset))
            found = measure_latency(
                {"float32": run_onnx(original, "cpu"), name: run_onnx(model, "cpu")},
                dict.fromkeys(("float32", name), given.image_size),
            )
            interval = interval_of(drop)
            print(
                json.dumps(
                    {
                        "model": name,
                        "drop": [
                            round(v, 2) for v in (interval.value, interval.low, interval.high)
                        ],
                        "flips": round(drop.flips, 4),
                        "size": round(len(model.graph) / len(original.graph), 3),
                        "speedup": round(found["float32"].p50_ms / found[name].p50_ms, 2),
                        "busy": found[name].busy,
                        "minutes": round(minutes, 1),
                        "chosen": model.card.steps[-1].notes[:1],
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--budget", type=float, default=0.5)
    parser.add_argument("--nncf", type=Path)
    parser.add_argument("--only-int8", action="store_true")
    given = parser.parse_args()
    for place in given.data:
        compare(place, given)
