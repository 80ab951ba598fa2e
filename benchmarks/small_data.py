"""Few images a class: the probe alone, our fine-tuning, the plain loop, fastai and timm.

The methods are those of `time_to_accuracy.py`. Val has a fifth as many images as train, at least
two a class: whoever has few images has few to choose by. The aim is never below the probe and never
below the best of the others. Each run is kept in `--out` as it ends; the same command goes on where
it was. Run it with:

    python benchmarks/small_data.py --out runs/
    python benchmarks/small_data.py --data flowers5/ --per-class 5 25 --peers other/bin/python \
        --out runs/

Without --data the images are scikit-learn's digits.
"""

import argparse

import numpy as np

from training_runs import METHODS, Record, Results, add_arguments, finals, measure, spread

ALL = ("probe", *METHODS)


def table(found: dict[tuple[str, int], dict[str, list[Record]]]) -> None:
    methods = [m for m in ALL if any(m in cell for cell in found.values())]
    print(f"\n| data | images a class | seeds | {' | '.join(methods)} |")
    print("| --- | --- | --- |" + " --- |" * len(methods))
    below = {"probe": 0, "best other": 0}
    for (data, per_class), cell in found.items():
        seeds = max(len(runs) for runs in cell.values())
        cells = [spread(finals(cell.get(method, []))) for method in methods]
        print(f"| {data} | {per_class} | {seeds} | {' | '.join(cells)} |")
        means = {method: float(np.mean(finals(runs))) for method, runs in cell.items()}
        if ours := means.pop("acclimate", 0):
            below["probe"] += ours < means.pop("probe", 0)
            below["best other"] += ours < max(means.values(), default=0)
    count = len(found)
    print(f"\nOurs, by the mean: below the probe in {below['probe']} of {count} rows, ", end="")
    print(f"below the best of the others in {below['best other']}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, ALL, curve=False)
    parser.add_argument("--per-class", type=int, nargs="+", default=[5, 10, 25, 100])
    args = parser.parse_args()
    results = Results(args.out)
    found: dict[tuple[str, int], dict[str, list[Record]]] = {}
    classes: dict[str, int] = {}

    def sizes_of(data: str, number: int) -> list[int]:
        classes[data] = number
        return [n * number for n in args.per_class]

    for about in measure(args, sizes_of, results):
        data = str(about["data"])
        cell = found.setdefault((data, int(about["images"]) // classes[data]), {})
        if runs := results.find(**about):
            cell.setdefault(str(about["method"]), []).extend(runs)
    table({key: cell for key, cell in found.items() if cell})


if __name__ == "__main__":
    main()
