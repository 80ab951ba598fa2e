"""Peak memory against the number of images: it must not grow with them.

Each size runs in a process of its own, on digits written out with grain so that no two files are
equal: clean, features and probe, one epoch of fine-tuning, evaluation; after each the peak so far,
in MB. Then the table work alone on 100,000 rows, whose thumbnails are smooth noise: exact
duplicates, near-duplicates through the index of hashes, clusters, split, save and load; and in
processes of their own the way by features, which are read from a store on disk: threshold, pairs,
clusters. The features are synthetic, of 100 classes, 2 % of them copies. "Like photos" are such
whose variance falls as it does in EfficientNet-Lite0's features of PACS' photos, CIFAR-10 and
TrashNet (62 % of it in 64 directions, 73 % in 128); in "white" ones, which no network has, all
directions have the same: there no few directions tell more than others. Run:

    python benchmarks/memory.py
    OMP_NUM_THREADS=2 python benchmarks/memory.py --features 100000
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write_images(folder: Path, count: int) -> None:
    bunch, rng = load_digits(), np.random.default_rng(0)
    for index in range(count):
        scan = bunch.images[index % len(bunch.images)] * 15
        large = np.kron(scan, np.ones((8, 8))) + rng.normal(0, 4, (64, 64))
        place = folder / str(bunch.target[index % len(bunch.images)])
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(large, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{index:06d}.png", compress_level=1)


def whole_path(folder: Path) -> None:
    """Every stage that looks at images, and what was the peak after each."""
    import acclimate
    from acclimate.context import Context
    from acclimate.fine_tuning.fine_tune import fine_tune
    from acclimate.fine_tuning.settings import FineTune

    context = Context(cache=folder.parent / "cache")

    def tell(stage: str) -> None:
        print(f"{stage} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f}", end=", ")

    dataset = acclimate.clean(folder)
    tell("clean")
    start = acclimate.probe("efficientnet-lite0", dataset, image_size=64, context=context)
    tell("probe")
    tuned = fine_tune(start, dataset, settings=FineTune(epochs=1, batch_size=32), context=context)
    tell("fine-tune")
    acclimate.evaluate(tuned, dataset, context=context)
    tell("evaluate")


def write_thumbnails(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise, (rows, 16, 16); the last 2 % are copies of the first ones' neighbours."""
    frequency = np.arange(16)
    cosines = np.cos(np.pi * (frequency[:, None] + 0.5) * frequency / 16).astype(np.float32)
    falls = (1 / (1 + frequency[:, None] + frequency)).astype(np.float32)
    shown = np.empty((rows, 16, 16), np.uint8)
    for start in range(0, rows, 4096):
        size = min(4096, rows - start)
        noise = rng.standard_normal((size, 16, 16), np.float32) * falls
        smooth = cosines @ noise @ cosines.T
        smooth *= 45 / smooth.std((1, 2), keepdims=True)
        shown[start : start + size] = np.clip(128 + smooth, 0, 255)
    copies = rows // 50
    moved = shown[copies : 2 * copies].astype(int) + rng.integers(-3, 4, (copies, 16, 16))
    shown[2 * copies : 3 * copies] = np.clip(moved, 0, 255)
    return shown


def table_work(rows: int) -> None:
    import pyarrow as pa

    from acclimate.cleaning.duplicates.exact import duplicates
    from acclimate.cleaning.duplicates.near import near_duplicates
    from acclimate.cleaning.duplicates.perceptual_hash import hashes
    from acclimate.cleaning.settings import Clean
    from acclimate.context import Context
    from acclimate.data.dataset import SCHEMA, Dataset
    from acclimate.data.split import split

    rng = np.random.default_rng(0)
    digests = rng.integers(0, 256, (rows, 16), dtype=np.uint8)
    digests[-rows // 50 :] = digests[: rows // 50]  # 2 % of exact copies
    labels = [f"class {i % 100}" for i in range(rows)]
    shown = write_thumbnails(rows, rng)
    known = {
        "path": [f"class {i % 100}/{i:08d}.jpg" for i in range(rows)],
        "label": pa.array(labels).dictionary_encode(),
        "split": pa.nulls(rows, pa.string()).dictionary_encode(),
        "domain": pa.array(["home"] * rows).dictionary_encode(),
        "group": pa.nulls(rows, pa.string()),
        "bytes": np.full(rows, 1000),
        "stamp": np.zeros(rows, np.int64),
        "digest": [d.tobytes() for d in digests],
        "width": np.full(rows, 64, np.int32),
        "height": np.full(rows, 64, np.int32),
        "keep": np.full(rows, True),
        "reasons": [[] for _ in range(rows)],
        "flags": [[] for _ in range(rows)],
        "duplicate_of": pa.nulls(rows, pa.string()),
        "phash": hashes(shown),
        "thumbnail": [picture.tobytes() for picture in shown],
    }
    columns = [known.get(field.name, pa.nulls(rows, field.type)) for field in SCHEMA]
    table = pa.table(columns, schema=SCHEMA)
    dataset = Dataset(table, tuple(sorted(set(labels))), Path())
    began = time.perf_counter()
    done = duplicates(dataset, Clean(), Context())
    done = near_duplicates(done, Clean(), Context())
    found = len(done) - done.table["cluster"].null_count
    done = split(done.with_columns({"thumbnail": [None] * rows}), val=0.15, test=0.2, seed=0)
    with tempfile.TemporaryDirectory() as name:
        done.save(Path(name) / "d.parquet")
        assert Dataset.load(Path(name) / "d.parquet").digest == done.digest
    seconds = time.perf_counter() - began
    print(f"table work {seconds:.1f} s, kept {int(done.keep.sum()):,}, {found:,} in clusters")


def write_features(place: Path, rows: int, spread: np.ndarray) -> list[bytes]:
    """A store of features with 100 centres; the last 2 % are nearly the first ones.

    Args:
        place: Of the store.
        rows: How many.
        spread: The variance of each feature, (1280,).

    Returns:
        The name of each row.
    """
    from acclimate.features.store import FeatureStore

    rng, deviations = np.random.default_rng(0), np.sqrt(spread / spread.sum())
    # As with photos: half as much in common as differs, a fifth of that between classes.
    shared = rng.standard_normal(1280) * (0.5 / 1280) ** 0.5
    centres = shared + 0.2**0.5 * deviations * rng.standard_normal((100, 1280))
    store, copies = FeatureStore(place, 1280), rows // 50
    names = [row.to_bytes(16, "big") for row in range(rows)]
    originals = np.empty((0, 1280), np.float32)
    for start in range(0, rows - copies, 4096):
        of = np.arange(start, min(start + 4096, rows - copies))
        noise = rng.standard_normal((len(of), 1280), np.float32)
        made = (centres[of % 100] + 0.8**0.5 * deviations * noise).astype(np.float32)
        store.add([names[row] for row in of], made)
        originals = np.concatenate([originals, made[: max(copies - len(originals), 0)]])
    shaken = 0.1 * deviations * rng.standard_normal(originals.shape, np.float32)
    store.add(names[rows - copies :], (originals + shaken).astype(np.float32))
    return names


SPREADS = {"like photos": (np.arange(1280) + 5.0) ** -1.2, "white": np.ones(1280)}


def feature_work(rows: int) -> None:
    """The time, and that the copies are what is found."""
    from acclimate.cleaning.duplicates.connected_components import component_labels
    from acclimate.cleaning.duplicates.feature_pairs import feature_threshold, similar_pairs
    from acclimate.cleaning.settings import Clean
    from acclimate.features.store import FeatureStore

    for kind, spread in SPREADS.items():
        with tempfile.TemporaryDirectory() as name:
            names = write_features(Path(name), rows, spread)
            features = FeatureStore(Path(name), 1280).rows(names)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            began, busy = time.perf_counter(), time.process_time()
            least = feature_threshold(features, Clean().feature_similarity, seed=0)
            pairs, _ = similar_pairs(features, least, seed=0)
            component_labels(pairs, rows)
            seconds, busy = time.perf_counter() - began, time.process_time() - busy
        copies = rows // 50
        true = int((pairs[:, 1] - pairs[:, 0] == rows - copies).sum())
        print(
            f"features {kind} {seconds:.1f} s ({busy:.1f} s of both cores), {true:,} of {copies:,} "
            f"copies found, {len(pairs) - true:,} other pairs, {before:,.0f} MB before"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--features", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.images or args.rows or args.features:
        if args.images:
            whole_path(args.images)
        elif args.rows:
            table_work(args.rows)
        else:
            feature_work(args.features)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak {peak:,.0f} MB")
        return
    for count in args.counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "images"
            write_images(folder, count)
            began = time.perf_counter()
            command = [sys.executable, __file__, "--images", str(folder)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"{count:>7,} images: {time.perf_counter() - began:6.1f} s, {told.strip()}")
    for count in (1_000, 10_000, 100_000):
        for part in ("--rows", "--features"):
            command = [sys.executable, __file__, part, str(count)]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(f"{count:>7,} rows: {', '.join(told.split(chr(10))).strip(', ')}")


if __name__ == "__main__":
    main()
