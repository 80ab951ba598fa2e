"""Writes the parameter counts of timm's networks, which `acclimate models available` shows.

    python benchmarks/count_parameters.py

Counting takes about 20 minutes, so the counts are kept in the package. Run this again for a new
version of timm; a network without a row is shown without its count.
"""

import csv
import warnings
from pathlib import Path

import timm
import torch

from acclimate.models import available

TABLE = Path(available.__file__).with_name(available.COUNTS)


def count(name: str) -> int | None:
    """The parameters of a network with a head of 1,000 classes; None if timm cannot build it."""
    try:
        with torch.device("meta"):  # shapes only: no memory, no random numbers
            network = timm.create_model(name, num_classes=1000)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError):
        return None
    return sum(p.numel() for p in network.parameters())


def main() -> None:
    warnings.simplefilter("ignore")
    counts = {name: count(name) for name in timm.list_models()}
    with TABLE.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["network", "parameters"])
        writer.writerows((name, n) for name, n in counts.items() if n is not None)
    left_out = [name for name, n in counts.items() if n is None]
    print(f"{TABLE}: {len(counts) - len(left_out)} networks; not counted: {left_out}")


if __name__ == "__main__":
    main()
