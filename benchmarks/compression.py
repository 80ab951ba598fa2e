"""Compares `compress` with what people do by hand: one static int8 file of ONNX Runtime.

EfficientNet-Lite0 is fine-tuned on each data set. Then the float model, ONNX Runtime's own
`quantize_static` (QDQ, per channel, min-max, with 8-bit and with 7-bit weights), and the model that
`compress` chooses are evaluated on the same test images, which nothing else has read. Run it with:

    python benchmarks/compression.py --data photos/ --data waste/ --image-size 96 --epochs 3
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from acclimate.augmentation.policy import choose_policy
from acclimate.cleaning.clean import clean
from acclimate.compression.acceptance import predictions
from acclimate.compression.accuracy_budget import accuracy_drop
from acclimate.compression.calibration import calibration_rows
from acclimate.compression.compress import compress
from acclimate.compression.pareto import interval_of
from acclimate.compression.settings import Compress, Quantize
from acclimate.compression.static_int8 import U8S7, U8S8, quantize_with
from acclimate.context import Context
from acclimate.cpu import has_exact_int8
from acclimate.data.dataset import Dataset
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


def models(original: Classifier, dataset: Dataset, budget: float, context: Context):
    """Name to model and the minutes that it took."""
    rows = calibration_rows(dataset, 256, context)
    for name, scheme in (("ONNX Runtime U8S8", U8S8), ("ONNX Runtime, 7-bit weights", U8S7)):
        began = time.monotonic()
        graph = quantize_with(original, dataset, rows, Quantize(), scheme)
        yield name, replace(original, graph=graph, network=None), (time.monotonic() - began) / 60
    for name, allow in (("compress, int8 only", ("quantize",)), ("compress", None)):
        began = time.monotonic()
        settings = Compress(max_accuracy_drop=budget, **({"allow": allow} if allow else {}))
        made = compress(original, dataset, choose_policy(), settings, context=context)
        yield name, made, (time.monotonic() - began) / 60


def compare(data: Path, size: int, epochs: int, budget: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        context = Context(cache=Path(folder) / "cache", progress=LogProgress())
        dataset = clean(read(data), context=context)
        start = probe(pretrained(Model(image_size=size)), dataset, context=context)
        tuned = fine_tune(start, dataset, None, FineTune(epochs=epochs), context=context)
        original = export(tuned, dataset, context=context)
        labels = dataset.labels[dataset.rows("test")]
        before = tested(original, dataset)
        line = {"data": data.name, "test_images": len(labels), "exact_int8": has_exact_int8()}
        line["accuracy"] = round(float((before == labels).mean()), 4)
        print(json.dumps(line), flush=True)
        for name, model, minutes in models(original, dataset, budget, context):
            drop = accuracy_drop(labels, before, tested(model, dataset))
            found = measure_latency(
                {"float32": run_onnx(original, "cpu"), name: run_onnx(model, "cpu")},
                dict.fromkeys(("float32", name), size),
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
    given = parser.parse_args()
    for place in given.data:
        compare(place, given.image_size, given.epochs, given.budget)
