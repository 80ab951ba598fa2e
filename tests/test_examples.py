"""The examples in the docstrings of the public names, run in a folder with photos and a model."""

import doctest
import inspect
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import acclimate
from acclimate.context import Context
from acclimate.data.images.contract import InputContract
from acclimate.features.probe import probe
from acclimate.models.onnx.export import export
from acclimate.models.pretrained import wrap

STAGES = (
    "augment", "clean", "compare", "distill", "evaluate", "export", "fine_tune", "inspect",
    "predict", "probe", "prune", "quantize", "read_onnx", "run", "search", "Recipe",
)  # fmt: skip
"""The public names that must have an example; others may have one."""


def examples(name):
    """The examples of a public name and of its methods."""
    found = getattr(acclimate, name)
    if not callable(found):
        return []
    names = {"acclimate": acclimate, "Path": Path, "np": np, name: found}
    tests = doctest.DocTestFinder(recurse=True).find(
        found, name, module=inspect.getmodule(found), globs=names
    )
    return [test for test in tests if test.examples]


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    """`photos/{one,seven}/*.png`, `photo.jpg`, and `leaf.model` with its ONNX graph."""
    folder = tmp_path_factory.mktemp("examples")
    for digit, name in (("1", "one"), ("7", "seven")):
        (folder / "photos" / name).mkdir(parents=True)
        for path in sorted(digits.glob(f"*/{digit}/*.png")):
            split = path.parent.parent.name
            shutil.copy(path, folder / "photos" / name / f"{split}-{path.name}")
    Image.open(next((digits / "test" / "7").iterdir())).convert("RGB").save(folder / "photo.jpg")
    photos = acclimate.clean(folder / "photos")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("test_efficientnet", num_classes=2)
    contract = InputContract(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0)
    start = replace(wrap(network, contract), classes=("a", "b"))
    here = Context(device="cpu")
    export(probe(start, photos, context=here), photos, context=here).save(folder / "leaf.model")
    return folder


@pytest.mark.parametrize("name", STAGES)
def test_a_public_function_has_an_example(name):
    assert examples(name)


@pytest.mark.parametrize("name", acclimate.__all__)
@pytest.mark.filterwarnings("ignore:PyTorch is imported already:RuntimeWarning")
def test_the_examples_are_true(name, folder, tmp_path, monkeypatch):
    # A copy for each name: examples write, and run in any order.
    monkeypatch.chdir(shutil.copytree(folder, tmp_path / "examples"))
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    told = []
    for test in examples(name):
        runner.run(test, out=told.append)
    assert not runner.failures, "".join(told)
