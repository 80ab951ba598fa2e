"""Train on one domain, test on it and on another: our fine-tuning, and what is published.

- plain: Adam at 1e-3, all layers, a new head, no augmentation, as a first attempt looks.
- LP-FT (Kumar et al. 2022): a head fitted on frozen features, then all layers with Adam at 1e-4;
  batch-norm statistics stay, since WiSE-FT starts from it.
- WiSE-FT (Wortsman et al. 2021): half way from that head to the end of LP-FT, as they recommend.
- acclimate: our defaults; and whatever `--set` asks for beside them.

All have the same pretrained weights, images, input size and number of epochs; none sees an image of
the other domain, and val chooses within the home domain. Run it with:

    python benchmarks/shift.py --data photo/ --other art_painting/
    python benchmarks/shift.py --data usps/ --other mnist-m/ --image-size 48 --seeds 3
    python benchmarks/shift.py --data photo/ --other art_painting/ --set wise_ft=auto

Without --data the images are scikit-learn's digits, and shifted copies of them.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from acclimate.augmentation.auto_policy import auto_policy
from acclimate.cleaning.clean import clean
from acclimate.context import Context
from acclimate.data.dataset import HOME, Dataset, Rows, balanced_sample
from acclimate.data.images.batches import batches, ordered_batches
from acclimate.data.sample_data import write_digits, write_shifted
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.features.probe import probe
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.device import on_device
from acclimate.models.pretrained import pretrained
from acclimate.models.runtime import Normalizer
from acclimate.models.settings import Model
from acclimate.models.structure import head, with_head
from acclimate.training.optim.model_soups import interpolated
from acclimate.training.optim.weight_averaging import copied

CPU = torch.device("cpu")
OTHER = "other"


def load(home: Path, other: Path, most: int, context: Context) -> Dataset:
    """At most so many images that train, and 500 of the other domain."""
    dataset = clean(read(home, Source(test_domains={OTHER: other})), context=context)
    rng = np.random.default_rng(context.seed)
    keep = dataset.keep.copy()
    for rows, number in ((dataset.rows("train"), most), (dataset.rows("test", OTHER), 500)):
        keep[np.setdiff1d(rows, balanced_sample(dataset, rows, number, rng))] = False
    return dataset.with_columns({"keep": keep})


def accuracy(network: nn.Module, dataset: Dataset, model: Classifier, rows: Rows) -> float:
    network.eval()
    to_input, right = Normalizer(model.contract, CPU), 0
    with torch.inference_mode():
        for batch in ordered_batches(dataset, rows, model.contract):
            logits = network(to_input(torch.from_numpy(batch.images)))
            right += int((logits.argmax(1).numpy() == batch.targets).sum())
    return right / len(rows)


def plainly(
    network: nn.Module, model: Classifier, dataset: Dataset, rate: float, epochs: int, seed: int,
    *, frozen_norms: bool, ended: Callable[[int], None] = lambda epoch: None,
) -> nn.Module:  # fmt: skip
    """Adam, all layers, cross-entropy, no augmentation, batch 32; tells of each epoch's end."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    to_input, rows = Normalizer(model.contract, CPU), dataset.rows("train")
    for epoch in range(1, epochs + 1):
        network.train()
        for module in network.modules():
            if frozen_norms and isinstance(module, nn.BatchNorm2d):
                module.eval()
        order = np.random.default_rng([seed, epoch]).permutation(rows)
        groups = [order[i : i + 32] for i in range(0, len(order) - 1, 32)]
        for batch in batches(dataset, groups, lambda row: model.contract.read(dataset.path(row))):
            logits = network(to_input(torch.from_numpy(batch.images)))
            loss = functional.cross_entropy(logits, torch.from_numpy(batch.targets))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ended(epoch)
    return network


def fresh(model: Classifier, classes: Sequence[str], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layer = nn.Linear(head(model.module()).in_features, len(classes))
    return on_device(with_head(model.module(), layer), CPU)


def networks(
    dataset: Dataset, args: argparse.Namespace, context: Context
) -> Iterator[tuple[str, nn.Module, float]]:
    """Each method's name, network, and the seconds it took from the pretrained weights on."""
    model, seed = pretrained(Model(image_size=args.image_size)), context.seed
    began = time.perf_counter()
    start = probe(model, dataset, context=context)
    fitted = time.perf_counter() - began
    yield "probe", start.module(), fitted
    began = time.perf_counter()
    network = fresh(model, dataset.classes, seed)
    network = plainly(network, model, dataset, 1e-3, args.epochs, seed, frozen_norms=False)
    yield "plain", network, time.perf_counter() - began
    began = time.perf_counter()
    network = on_device(copy.deepcopy(start.module()), CPU)
    network = plainly(network, model, dataset, 1e-4, args.epochs, seed, frozen_norms=True)
    seconds = fitted + time.perf_counter() - began
    yield "LP-FT", network, seconds
    half = copy.deepcopy(network)
    half.load_state_dict(interpolated(copied(start.module()), copied(network), 0.5))
    yield "WiSE-FT", half, seconds
    for name, changes in args.variants.items():
        began = time.perf_counter()
        policy = auto_policy(start, dataset, context=context)
        settings = FineTune.model_validate({"epochs": args.epochs, **changes})
        tuned = fine_tune(start, dataset, policy, settings, context=context)
        yield name, tuned.module(), fitted + time.perf_counter() - began
        if args.line and not changes:
            line(start.module(), tuned.module(), dataset, model)


def line(start: nn.Module, end: nn.Module, dataset: Dataset, model: Classifier) -> None:
    """Val, test and the other domain on the way from our start to our end."""
    network, ends = copy.deepcopy(end), (copied(start), copied(end))
    for coefficient in (0, 0.2, 0.4, 0.6, 0.8, 1):
        network.load_state_dict(interpolated(*ends, coefficient))
        sets = dataset.rows("val"), dataset.rows("test"), dataset.rows("test", OTHER)
        found = [f"{accuracy(network, dataset, model, rows):.3f}" for rows in sets]
        print(f"  {coefficient}: val {found[0]}, in {found[1]}, out {found[2]}", flush=True)


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation over seeds where there are several."""
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


def variants(asked: list[str]) -> dict[str, dict[str, object]]:
    """Our defaults, and one variant for each `--set a=1,b=2`."""
    found: dict[str, dict[str, object]] = {"acclimate": {}}
    for text in asked:
        found[f"acclimate, {text}"] = dict(part.split("=", 1) for part in text.split(","))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--image-size", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=500, help="That train, at most.")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--line", action="store_true", help="Ours by WiSE-FT's coefficient.")
    parser.add_argument("--set", action="append", default=[], help="Another variant of ours.")
    args = parser.parse_args()
    if (args.data is None) != (args.other is None):
        parser.error("--data and --other go together.")
    args.variants = variants(args.set)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        home, other = args.data, args.other
        if home is None:
            home, other = scratch / "digits", scratch / "shifted"
            write_digits(home)
            write_shifted(home / "test", other)
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            context = Context(seed=seed, device="cpu", cache=scratch / "cache")
            dataset = load(home, other, args.images, context)
            model = pretrained(Model(image_size=args.image_size))
            for method, network, seconds in networks(dataset, args, context):
                judged = [
                    accuracy(network, dataset, model, dataset.rows("test", domain))
                    for domain in (HOME, OTHER)
                ]
                rows.append({"method": method, "seed": seed, "in": judged[0], "out": judged[1]})
                rows[-1]["seconds"] = round(seconds, 1)
                print(json.dumps(rows[-1]), flush=True)
    print(f"\n| {home.name} to {other.name} | in domain | out of domain | seconds |")
    print("| --- | --- | --- | --- |")
    for method in dict.fromkeys(row["method"] for row in rows):
        some = [row for row in rows if row["method"] == method]
        cells = [spread([float(r[c]) for r in some]) for c in ("in", "out")]
        seconds = np.mean([r["seconds"] for r in some])
        print(f"| {method} | {cells[0]} | {cells[1]} | {seconds:.0f} |")


if __name__ == "__main__":
    main()
