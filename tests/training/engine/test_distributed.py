"""Two processes under `torchrun` do the work of one: the same images, the same result."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from acclimate.cleaning.clean import clean
from acclimate.data.sources.read import read
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import wrap
from kit import CONTRACT, made_once, tiny_network

# 180 images: ten full batches, or one and a single image that is too few for two processes.
EVEN, RAGGED = 18, 179

SCRIPT = """
import json, math, signal, sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from acclimate.augmentation.policy import choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.context import Context, process_rank
from acclimate.data.dataset import Dataset
from acclimate.distillation.distill import distill
from acclimate.distillation.settings import Distill
from acclimate.errors import AcclimateError
from acclimate.fine_tuning import fine_tune as stage
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.progress import SilentProgress
from acclimate.training.batches.training_images import TrainingImages

model, data, out = map(Path, sys.argv[1:4])
rank = process_rank()
dataset, start = Dataset.load(data), Classifier.load(model)
start = replace(start, classes=dataset.classes)
policy = choose_policy(Augment(horizontal_flip=False, operations_per_image=0))
answers, seen = {}, []


class Recorded(TrainingImages):
    def augmented(self, row, seed):
        seen.append(row)
        return super().augmented(row, seed)


stage.TrainingImages = Recorded
for batch_size in map(int, sys.argv[4:]):
    seen.clear()
    settings = FineTune(epochs=1, batch_size=batch_size, learning_rate=1e-2)
    context = Context(device="cpu", workspace=out / f"work-{batch_size}-{rank}")
    tuned = stage.fine_tune(start, dataset, policy, settings, context=context)
    answers[batch_size] = {
        "seen": list(seen),
        "digest": tuned.digest,
        "curve": [dict(line) for line in tuned.card.steps[-1].curve],
    }
settings = Distill(epochs=1, batch_size=60, learning_rate=1e-3)
taught = distill(tuned, dataset, policy, settings, context=Context(device="cpu"))
answers["distilled"] = taught.digest
hints = Distill(epochs=2, batch_size=18, learning_rate=3e-3, method="hints")
taught = distill(tuned, dataset, policy, hints, context=Context(device="cpu"), start=start)
answers["hinted"] = taught.digest
answers["hinted_best"] = taught.card.steps[-1].figures["best_epoch"]
left = FineTune(trainable="auto", max_minutes=1e-5, batch_size=18, class_statistics=False)
chosen = stage.fine_tune(start, dataset, policy, left, context=Context(device="cpu"))
answers["chosen"] = [chosen.digest, *chosen.card.steps[-1].notes]


class Counted(SilentProgress):
    def __init__(self):
        self.lines, self.batches = [], 0

    def info(self, text):
        self.lines.append(text)

    def task(self, name, total, unit="images"):
        return nullcontext(self)

    def note(self, text):
        pass

    def advance(self, done=1):
        self.batches += 1
        if how == "stop" and self.batches == 4 + 2:
            signal.raise_signal(signal.SIGINT)


def cross_entropy(logits, targets, smoothing):
    global steps
    steps += 1
    if how == "stop" and rank == 1 and steps == 4 + 3:  # Ctrl-C reaches all processes
        raise KeyboardInterrupt
    if how == "die" and rank == 1 and steps == 5:
        raise AcclimateError("process 1 broke.")
    if how == "troubles" and rank == 1 and steps == 2 and len(logits) > 12:
        raise torch.OutOfMemoryError("out of memory")
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    if how == "troubles" and rank == 1 and steps == 8:
        return losses * math.nan
    return losses


stage.LOSSES["cross_entropy"] = cross_entropy
start.module().drop_rate = 0.5
policy = replace(policy, mixup=0.5)
# 180 images: three full batches and a last one of 9.
settings = FineTune(epochs=2, batch_size=57, learning_rate=1e-2, batch_norm="train")


def train(kind, place):
    global how, steps
    how, steps = kind, 0
    heard = Counted()
    # Ranks other than 0 say and keep nothing: all give the same folder.
    context = Context(device="cpu", workspace=out / place, progress=heard)
    tuned = stage.fine_tune(start, dataset, policy, settings, context=context)
    return {
        "digest": tuned.digest,
        "said": heard.lines,
        "figures": tuned.card.steps[-1].figures,
        "finite": all(bool(t.isfinite().all()) for t in tuned.module().state_dict().values()),
    }


answers["whole"] = train("whole", "whole")
try:
    train("stop", "stopped")
except KeyboardInterrupt:
    answers["checkpoint"] = (out / "stopped" / "checkpoint.pt").exists()
answers["resumed"] = train("whole", "stopped")
answers["troubles"] = train("troubles", "troubles")
(out / f"{rank}.json").write_text(json.dumps(answers))
try:
    train("die", "dead")
except AcclimateError as error:
    print(f"rank {rank}: {error}", file=sys.stderr, flush=True)
    sys.exit(2)
"""


def figures(curve):
    return [
        (line["val_loss"], line["val_accuracy"], line["train_loss"] or 0.0, line["learning_rate"])
        for line in curve
    ]


def close(curve, other):
    return all(
        a == pytest.approx(b, rel=2e-3, abs=2e-3)
        for a, b in zip(figures(curve), figures(other), strict=True)
    )


def two_processes(*arguments, succeeds=True):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode == 0) == succeeds, done.stderr
    return done


@pytest.fixture(scope="module")
def model(shared) -> Path:
    """The folder of a small network that does not know the digits."""
    make = lambda folder: wrap(tiny_network(), CONTRACT).save(folder / "model")  # noqa: E731
    return made_once(shared / "unknowing", make) / "model"


@pytest.fixture(scope="module")
def launched(model, dataset, shared) -> Path:
    """What two processes left that trained, were stopped, met trouble, and died in the end."""

    def make(folder):
        dataset.save(folder / "digits.parquet")
        (folder / "script.py").write_text(SCRIPT)
        given = (folder / "script.py", model, folder / "digits.parquet", folder, EVEN, RAGGED)
        (folder / "stderr").write_text(two_processes(*given, succeeds=False).stderr)

    return made_once(shared / "two processes", make)


@pytest.fixture
def answers(launched):
    """The answers of both processes."""
    places = [launched / f"{rank}.json" for rank in (0, 1)]
    assert all(place.exists() for place in places), (launched / "stderr").read_text()
    return [json.loads(place.read_text()) for place in places]


@pytest.mark.slow
def test_every_image_is_seen_once_an_epoch_over_both(
    answers, launched, model, dataset, policy, context
):
    first, second = answers
    rows = dataset.rows("train").tolist()
    assert len(rows) == 180

    even = [ranks[str(EVEN)]["seen"] for ranks in (first, second)]
    assert Counter(even[0]) + Counter(even[1]) == Counter(rows)
    assert len(even[0]) == len(even[1]) == 90
    # A last single image joins the batch before it.
    ragged = [ranks[str(RAGGED)]["seen"] for ranks in (first, second)]
    assert Counter(ragged[0]) + Counter(ragged[1]) == Counter(rows)

    start = replace(Classifier.load(model), classes=dataset.classes)
    policy = replace(policy, crop_area=0.6)
    for size in (EVEN, RAGGED):
        both = [ranks[str(size)] for ranks in (first, second)]
        assert both[0]["digest"] == both[1]["digest"]
        settings = FineTune(epochs=1, batch_size=size, learning_rate=1e-2)
        alone = fine_tune(start, dataset, policy, settings, context=context)
        assert close(both[0]["curve"], alone.card.steps[-1].curve)
        assert (launched / f"work-{size}-0" / "checkpoint.pt").exists()
        assert not (launched / f"work-{size}-1").exists()


def test_distillation_and_the_choice_of_layers_are_the_same_in_both(answers):
    first, second = answers
    assert first["distilled"] == second["distilled"]
    # The projection of hints is shared too: without that, each process would go its own way.
    assert first["hinted"] == second["hinted"]
    assert first["hinted_best"] > 0
    assert first["chosen"] == second["chosen"]
    assert first["chosen"][1].startswith("Trained: all layers")
    alone = (
        "trainable: all layers, since activations of a frozen part cannot be kept: "
        "several processes train."
    )
    assert alone in first["chosen"]


@pytest.mark.slow
def test_the_command_on_two_processes_gives_the_model_of_one(
    model, digits, policy, context, tmp_path
):
    out = tmp_path / "out" / "tuned"
    settings = {"epochs": 2, "batch_size": 20, "learning_rate": 3e-3}
    done = two_processes(
        *("-m", "acclimate", "fine-tune", model, digits, "-o", out, "--device", "cpu"),
        *(f"--set={name}={value}" for name, value in settings.items()),
        "--set=augment.policy=basic",
        "--set=augment.mixup=0.2",
        "--set=augment.horizontal_flip=false",
        "--set=augment.operations_per_image=0",
        "--set=augment.crop_area=0.8",
        "--json",
    )
    assert json.loads(done.stdout)  # one answer, from one process
    assert sum("epoch 2/2" in line for line in done.stderr.splitlines()) == 1
    assert [path.name for path in out.parent.iterdir()] == ["tuned"]

    together = Classifier.load(out)
    dataset = clean(read(digits), context=context)
    policy = replace(policy, mixup=0.2)  # partners do not depend on the number of processes
    alone = fine_tune(
        Classifier.load(model), dataset, policy, FineTune(**settings), context=context
    )
    assert together.classes == alone.classes
    assert [step.stage for step in together.card.steps] == ["probe", "fine_tune"]
    assert together.card.dataset == alone.card.dataset
    assert close(together.card.steps[-1].curve, alone.card.steps[-1].curve)
    ours, theirs = (m.module().state_dict() for m in (together, alone))
    assert all(torch.allclose(ours[n].float(), theirs[n].float(), atol=2e-3) for n in ours)


def test_two_processes_stopped_within_an_epoch_go_on_to_the_same_weights(answers):
    whole, resumed = ([ranks[name] for ranks in answers] for name in ("whole", "resumed"))
    assert whole[0]["digest"] == whole[1]["digest"]
    assert whole[1]["said"][0].startswith("plan: ")
    # Progress of a training comes from the first process alone.
    assert not any(line.startswith("epoch") for line in whole[1]["said"])
    assert answers[0]["checkpoint"]
    assert "resuming in epoch 2 of 2 at batch 3 of 4" in resumed[0]["said"]
    assert [r["digest"] for r in resumed] == [r["digest"] for r in whole]


def test_what_goes_wrong_in_one_process_is_got_over_by_both(answers):
    first, second = (ranks["troubles"] for ranks in answers)
    assert first["digest"] == second["digest"]
    assert first["finite"]
    assert first["figures"]["skipped_steps"] == second["figures"]["skipped_steps"] == 1
    (line,) = [line for line in first["said"] if "memory" in line]
    assert line == ("out of memory: switching to micro-batches of 14 with gradient accumulation")
    assert any(line.endswith("skipped: loss is nan") for line in first["said"])


def test_a_process_that_dies_ends_the_others_with_one_sentence(launched):
    said = (launched / "stderr").read_text()
    assert "rank 1: process 1 broke." in said
    told = [line for line in said.splitlines() if line.startswith("rank 0:")]
    if told:  # torchrun may have ended it before it noticed
        assert told == [
            "rank 0: another process of the training ended, so process 0 ends too. Its "
            "message says why. Run the same command to resume at the last checkpoint."
        ]
