"""Accuracy against seconds: our fine-tuning, the plain loop, fastai and timm.

Same weights, images, input size, number of epochs and cores. fastai and timm are measured with
their defaults and with what they advise for fine-tuning (`training_peers.py` says what that is);
give the Python of an environment that has fastai, timm and safetensors with `--peers`. Ours is
`fine_tune` with its defaults, the fitting of the head and the asking of the augmentation counted.
The plain loop is what a first attempt looks like: Adam at 1e-3, all layers, no augmentation.

Each run is kept in `--out` as it ends; the same command goes on where it was. Run it with:

    python benchmarks/time_to_accuracy.py --out runs/
    python benchmarks/time_to_accuracy.py --data cifar10/ --data flowers5/ --out runs/ \
        --peers other/bin/python

Without --data the images are scikit-learn's digits.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training_runs import METHODS, Record, Results, add_arguments, finals, measure, spread

OURS = "acclimate"
COLORS = ("#2563a8", "#d9822b", "#8fbf8f", "#2f7d32", "#c49bd6", "#7b2fa0")


def first_reached(run: Record, wanted: float) -> float | None:
    pairs = zip(run["seconds"], run["accuracies"], strict=True)
    return next((seconds for seconds, accuracy in pairs if accuracy >= wanted), None)


def against(ours: list[Record], theirs: list[Record]) -> tuple[str, str]:
    """When ours first is at what they end with, and how many times sooner than they are there."""
    others = {run["seed"]: run for run in theirs}
    when, ratios, missed = [], [], 0
    for run in ours:
        if run["seed"] not in others:
            continue
        other = others[run["seed"]]
        wanted = other["accuracies"][-1]
        reached = first_reached(run, wanted)
        if reached is None:
            missed += 1
            continue
        when.append(reached)
        ratios.append(first_reached(other, wanted) / reached)
    if not when:
        return "never", ""
    never = f", never in {missed}" if missed else ""
    return f"{np.mean(when):.0f} s{never}", f"{np.exp(np.mean(np.log(ratios))):.1f}"


def table(chosen: dict[str, dict[str, list[Record]]]) -> None:
    print("\n| data | method | runs | in the end | whole | ours is there at | times sooner |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for data, methods in chosen.items():
        for method, runs in methods.items():
            whole = np.mean([run["seconds"][-1] for run in runs])
            cells = [data, method, str(len(runs)), spread(finals(runs)), f"{whole:.0f} s"]
            theirs = method != OURS and OURS in methods
            cells += against(methods[OURS], runs) if theirs else ("", "")
            print(f"| {' | '.join(cells)} |")
    print()
    for data, methods in chosen.items():
        others = {m: float(np.mean(finals(runs))) for m, runs in methods.items() if m != OURS}
        if OURS not in methods or not others:
            continue
        best = max(others, key=others.__getitem__)
        when, times = against(methods[OURS], methods[best])
        print(
            f"{data}: the best other is {best}, {others[best]:.3f}; ours is there at {when}"
            f"{f', {times} times sooner' if times else ''}, and ends at "
            f"{np.mean(finals(methods[OURS])):.3f}."
        )


def plot(chosen: dict[str, dict[str, list[Record]]], path: Path) -> None:
    """The mean of the seeds, of each method and data set."""
    figure = Figure(figsize=(4.2 * len(chosen), 3.4))
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    for axes, (data, methods) in zip(panels, chosen.items(), strict=True):
        for method, runs in methods.items():
            points = min(len(run["seconds"]) for run in runs)
            curve = [
                np.mean([run[axis][:points] for run in runs], axis=0)
                for axis in ("seconds", "accuracies")
            ]
            color = COLORS[METHODS.index(method)]
            label = "plain loop" if method == "plain" else method
            axes.plot(*curve, "o-", ms=3, lw=1.2, color=color, label=label)
        axes.set_title(data, fontsize=10)
        axes.set_xlabel("seconds")
        axes.set_ylabel("test accuracy")
    panels[-1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "acclimate"}):
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser, METHODS, curve=True)
    parser.add_argument("--images", type=int, default=500, help="That train, at most.")
    parser.add_argument("--plot", type=Path, default=Path(__file__).with_suffix(".svg"))
    args = parser.parse_args()
    results = Results(args.out)
    chosen: dict[str, dict[str, list[Record]]] = {}
    for about in measure(args, lambda *_: [args.images], results):
        runs = chosen.setdefault(str(about["data"]), {}).setdefault(str(about["method"]), [])
        runs += results.find(**about)
    chosen = {d: {m: runs for m, runs in methods.items() if runs} for d, methods in chosen.items()}
    chosen = {d: methods for d, methods in chosen.items() if methods}
    table(chosen)
    if chosen:
        plot(chosen, args.plot)


if __name__ == "__main__":
    main()
