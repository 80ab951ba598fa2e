"""What a GPU computes equals what the CPU computes, and a training on it learns and resumes.

Without a GPU the CPU is the device, so that these tests are ready for the day there is one;
what only a GPU can show is skipped. `benchmarks/gpu_check.sh` runs them there.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from torch import nn

from acclimate.augmentation.batched_operations import finish_batch
from acclimate.augmentation.operations import size_of
from acclimate.augmentation.policy import POLICIES
from acclimate.context import Context
from acclimate.data.images.batches import ordered_batches
from acclimate.evaluation.evaluate import evaluate
from acclimate.evaluation.settings import Evaluate
from acclimate.features.extract import extract
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.onnx.export import export
from acclimate.models.runtime import run_onnx, run_torch
from acclimate.training.engine import loop
from acclimate.training.engine.checkpoint import find_state
from acclimate.training.engine.loop import train
from acclimate.training.plan import make_plan
from kit import Recorder, TensorBatches, cross_entropy, mlp

pytestmark = pytest.mark.gpu
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ON_GPU = DEVICE == "cuda"
only_on_gpu = pytest.mark.skipif(not ON_GPU, reason="needs a GPU")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
STEPS = 180 // 18


@pytest.fixture
def device(context) -> Context:
    """The facts of a test run on the device."""
    return replace(context, device=DEVICE)


@pytest.fixture(autouse=True)
def _float16_on_a_cpu(monkeypatch):
    """Fabric has no loss scaler on a CPU, and PyTorch has one. A GPU is used as it is."""
    usual = loop.launched

    def launched(plan):
        if plan.precision != "16-mixed" or ON_GPU:
            return usual(plan)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu"))
        fabric.launch()
        return fabric

    monkeypatch.setattr(loop, "launched", launched)


def planned(precision, context, epochs=3):
    settings = FineTune(epochs=epochs, batch_size=18, learning_rate=1e-2)
    return replace(make_plan(settings, 180, context), precision=precision)


def trained_mlp(precision, context, **more):
    plan = planned(precision, context)
    return train(mlp(), TensorBatches(18), cross_entropy, plan, context=context, **more)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_training_learns_the_digits_in_each_precision(device, precision):
    found = trained_mlp(precision, device)
    assert found.best.val_accuracy > 0.6
    assert found.curve[-1].train_loss < 0.7 * found.curve[1].train_loss
    assert found.incidents.skipped <= STEPS  # while the loss scaler looks for its scale
    assert all(p.device.type == "cpu" for p in found.network.parameters())


def test_a_training_has_the_losses_that_it_has_on_the_cpu(device, context):
    here, there = (trained_mlp("32-true", place) for place in (context, device))
    for a, b in zip(here.curve[1:], there.curve[1:], strict=True):
        assert b.train_loss == pytest.approx(a.train_loss, rel=0.02)
        assert b.val_loss == pytest.approx(a.val_loss, rel=0.02)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_stopped_training_resumes_as_if_it_had_not_been_stopped(device, precision, tmp_path):
    whole = trained_mlp(precision, device)
    stop = Recorder(at_advance=STEPS + 3)
    kept = replace(device, workspace=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trained_mlp(precision, replace(kept, progress=stop))
    state = find_state(tmp_path)
    assert bool(state.scaler) == (precision == "16-mixed")
    resumed = trained_mlp(precision, kept)
    tensors = zip(
        whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True
    )
    # A GPU adds in an order of its own; on a CPU the weights are equal.
    assert all(torch.allclose(a, b, atol=1e-3 if ON_GPU else 0.0, rtol=0.0) for a, b in tensors)


def test_the_loss_scaler_skips_what_overflows_and_goes_on(device):
    """From a scale at which gradients overflow, the scaler finds one at which they do not."""

    class Steep(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, images):
            return 64 * self.inner(images)

    plan = replace(planned("16-mixed", device), learning_rate=1e-4)
    network = Steep()
    found = train(network, TensorBatches(18), cross_entropy, plan, context=device)
    assert found.incidents.skipped
    assert found.curve[-1].train_loss < found.curve[1].train_loss
    assert all(bool(p.isfinite().all()) for p in network.parameters())


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("name", ["auto", "randaugment", "trivialaugment", "augmix"])
def test_augmentation_in_batches_equals_that_in_threads(name, photo):
    policy = replace(POLICIES[name], consistency=0.0)
    rngs = [np.random.default_rng(seed) for seed in range(16)]
    sampled = [policy.sample_transform(size_of(photo), rng) for rng in rngs]
    alone = np.stack([one.apply(photo) for one in sampled]).astype(int)
    images = np.stack([photo] * len(sampled))
    together = finish_batch(images, [[one] for one in sampled], torch.device(DEVICE))
    assert together.device.type == DEVICE
    apart = np.abs(alone - together.cpu().numpy())
    assert apart.mean() < 0.02
    assert (apart > 1).mean() < 0.001


def test_evaluation_finds_what_the_cpu_finds(trained, dataset, device, context):
    settings = Evaluate(bootstrap=100, latency=False, runtime="torch")
    here, there = (
        evaluate(trained, dataset, settings, context=place, name="m") for place in (context, device)
    )
    close = pytest.approx(here.metrics["home"]["accuracy"].value, abs=0.02)
    assert there.metrics["home"]["accuracy"].value == close


def test_features_are_those_of_the_cpu(trained, dataset, context, tmp_path):
    rows = dataset.rows("val")
    here, there = (
        extract(trained, dataset, rows, replace(context, device=name, cache=tmp_path / name))
        for name in ("cpu", DEVICE)
    )
    assert np.abs(here).max() > 0.1
    np.testing.assert_allclose(there, here, atol=0.02 * np.abs(here).max())


def test_a_network_trained_on_the_device_is_exported_as_it_is(headless, dataset, policy, device):
    settings = FineTune(epochs=1, batch_size=18, learning_rate=1e-2)
    tuned = fine_tune(headless, dataset, policy, settings, context=device)
    graph = export(tuned, dataset, context=device).graph
    onnx.checker.check_model(onnx.load_from_string(graph))
    (batch,) = ordered_batches(dataset, dataset.rows("val"), tuned.contract, context=device)
    there = run_torch(tuned, DEVICE)(batch.images)
    here = run_onnx(replace(tuned, graph=graph), "cpu")(batch.images)
    np.testing.assert_allclose(here, there, atol=0.02 * np.abs(there).max())


@only_on_gpu
def test_a_batch_too_large_for_the_memory_is_done_in_pieces(device):
    class Hungry(nn.Module):
        """Each image takes 256 MB."""

        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, images):
            if self.training:
                torch.empty(len(images), 1 << 28, dtype=torch.uint8, device=images.device)
            return self.inner(images)

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2.5e9 / total))
    said = Recorder()
    try:
        plan = planned("32-true", device, epochs=1)
        found = train(
            Hungry(), TensorBatches(18), cross_entropy, plan,
            context=replace(device, progress=said),
        )  # fmt: skip
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert 1 <= found.incidents.micro_batch < 18
    assert any(line.startswith("out of memory: switching") for line in said.lines)


TWO = """
import json, sys
from pathlib import Path
from acclimate.augmentation.policy import choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.context import Context, process_rank
from acclimate.data.dataset import Dataset
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier

data, model, out, device = sys.argv[1:]
policy = choose_policy(Augment(horizontal_flip=False, operations_per_image=0))
settings = FineTune(epochs=1, batch_size=18, learning_rate=1e-2, precision="32-true")
start = Classifier.load(Path(model))
tuned = fine_tune(start, Dataset.load(Path(data)), policy, settings, context=Context(device=device))
curve = [dict(line) for line in tuned.card.steps[-1].curve]
Path(out, f"{process_rank()}.json").write_text(json.dumps([tuned.digest, curve]))
"""


@only_on_gpu
def test_two_processes_share_a_gpu(headless, dataset, tmp_path):
    """On a CPU `training/engine/test_distributed.py` tests more of this."""
    (tmp_path / "two.py").write_text(TWO)
    dataset.save(tmp_path / "digits.parquet")
    headless.save(tmp_path / "model")
    given = [tmp_path / name for name in ("two.py", "digits.parquet", "model", ".")]
    for count in (2, 1):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={count}", *map(str, given), DEVICE]
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=env)
        assert done.returncode == 0, done.stderr
        if count == 2:
            first, second = (json.loads((tmp_path / f"{i}.json").read_text()) for i in (0, 1))
            assert first[0] == second[0]
    _, alone = json.loads((tmp_path / "0.json").read_text())
    for a, b in zip(first[1], alone, strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=0.02)
