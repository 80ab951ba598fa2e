"""What the tests share: real images and a real small network, made once a session.

The images are scikit-learn's digits, the network is EfficientNet-Lite0 with ImageNet weights from
its package, at 32 px so that training takes seconds. No test needs a network or other data.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

# Before torch and numpy are imported: threads that wait sleep. Where the cores are shared with
# other work, spinning threads make these small networks twenty times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # a worker for each core: more threads would wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
from torch import nn

from acclimate.augmentation.policy import Policy, choose_policy
from acclimate.augmentation.settings import Augment
from acclimate.cleaning.clean import clean
from acclimate.compression import acceptance
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.sample_data import write_digits, write_shifted
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.evaluation.evaluate import Evaluation, evaluate
from acclimate.evaluation.settings import Evaluate
from acclimate.features.probe import probe
from acclimate.fine_tuning.fine_tune import fine_tune
from acclimate.fine_tuning.settings import FineTune
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model
from acclimate.models.structure import head, with_head
from kit import (
    classifier_once,
    made_once,
    measure_latency_briefly,
    share_exports,
    tiny_classifier,
)

# The same commit passes or fails everywhere; `make fuzz` looks for faults with new examples.
# Without deadlines: how long an example takes is the machine's affair.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("fuzz", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests start first, or one core waits for the other in the end."""
    items.sort(key=lambda item: (item.path.name != "test_docs.py", item.path.parent.name != "cli"))


IMAGE_SIZE = 32
PER_CLASS = 30
"""Of each digit: 18 train, 4 or 5 val, 7 or 8 test."""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what all workers of a test run share; see `kit.made_once`."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _exports(shared: Path) -> None:
    """No network is exported twice."""
    share_exports(shared / "exports")


@pytest.fixture(scope="session", autouse=True)
def _speed_of_small_networks_is_noise() -> Iterator[None]:
    """It is measured briefly, and no pruned network is refused for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acceptance, "SLOWER", 0.0)
        measure_latency_briefly()
        yield


@pytest.fixture(scope="session")
def cache(shared: Path) -> Path:
    """A feature cache that all tests share, never the user's own."""
    folder = shared / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
    """Nothing is written to the user's home, and loggers are left as they were."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(cache / "config"))
    level = logging.getLogger("acclimate").level
    yield
    logging.getLogger("acclimate").setLevel(level)


@pytest.fixture(scope="session")
def context(cache: Path) -> Context:
    """The facts of a test run."""
    return Context(seed=0, device="cpu", cache=cache)


@pytest.fixture(scope="session")
def digits(shared: Path) -> Path:
    """`<split>/<digit>/<number>.png`: 300 real scanned digits. Read only."""

    def make(folder: Path) -> None:
        write_digits(folder / "digits", per_class=PER_CLASS)
        write_shifted(folder / "digits" / "test", folder / "shifted")

    return made_once(shared / "images", make) / "digits"


@pytest.fixture(scope="session")
def shifted(digits: Path) -> Path:
    """A shifted copy of the test digits, `<digit>/<number>.png`. Read only."""
    return digits.parent / "shifted"


@pytest.fixture(scope="session")
def dataset(digits: Path, shifted: Path, shared: Path, context: Context) -> Dataset:
    """The digits cleaned, with the domain "shifted" beside them."""

    def make(folder: Path) -> None:
        source = Source(test_domains={"shifted": shifted})
        clean(read(digits, source), context=context).save(folder / "digits.parquet")

    return Dataset.load(made_once(shared / "dataset", make) / "digits.parquet")


@pytest.fixture(scope="session")
def imagenet() -> Classifier:
    """EfficientNet-Lite0 with ImageNet weights, at 32 px. Never changed."""
    return pretrained(Model(image_size=IMAGE_SIZE))


@pytest.fixture(scope="session")
def start(imagenet: Classifier, dataset: Dataset, shared: Path, context: Context) -> Classifier:
    """The probe: ImageNet's backbone with a head for the digits. Never changed."""
    return classifier_once(shared / "probe", lambda: probe(imagenet, dataset, context=context))


@pytest.fixture(scope="session")
def policy() -> Policy:
    """Gentle augmentation that keeps digits true."""
    return choose_policy(Augment(horizontal_flip=False, crop_area=0.8, operations_per_image=0))


@pytest.fixture(scope="session")
def tuned(
    start: Classifier, dataset: Dataset, policy: Policy, shared: Path, context: Context
) -> Classifier:
    """The digits learnt in a few epochs, from a head that knows nothing. Never changed.

    Not from the probe's: on 40 val images nothing may be better, and the start would be kept.
    """

    def make() -> Classifier:
        empty = nn.Linear(head(start.module()).in_features, len(start.classes))
        nn.init.zeros_(empty.weight)
        blank = replace(start, network=with_head(start.module(), empty).eval())
        settings = FineTune(epochs=4, batch_size=16, learning_rate=1e-3)
        return fine_tune(blank, dataset, policy, settings, context=context)

    return classifier_once(shared / "tuned", make)


@pytest.fixture(scope="session")
def evaluations(
    start: Classifier, tuned: Classifier, dataset: Dataset, shared: Path, context: Context
) -> tuple[Evaluation, Evaluation]:
    """Of the probe and of the fine-tuned digits."""

    def make(folder: Path) -> None:
        settings = Evaluate(bootstrap=200, latency=False)
        for name, model in (("probe", start), ("tuned", tuned)):
            evaluate(model, dataset, settings, context=context, name=name).save(folder / name)

    folder = made_once(shared / "evaluations", make)
    return Evaluation.load(folder / "probe"), Evaluation.load(folder / "tuned")


@pytest.fixture(scope="session")
def blank(dataset):
    """A small network that has the digits' classes and knows nothing of them. Never changed."""
    return tiny_classifier(dataset.classes)


@pytest.fixture(scope="session")
def trained(
    blank: Classifier, dataset: Dataset, policy: Policy, shared: Path, context: Context
) -> Classifier:
    """The same network after it was trained on the digits. Never changed."""
    settings = FineTune(epochs=6, batch_size=18, learning_rate=1e-2)
    return classifier_once(
        shared / "trained",
        lambda: fine_tune(blank, dataset, policy, settings, context=context),
    )


@pytest.fixture(scope="session")
def headless(trained: Classifier) -> Classifier:
    """The trained small network with a head that knows nothing. Never changed."""
    empty = nn.Linear(head(trained.module()).in_features, len(trained.classes))
    nn.init.zeros_(empty.weight)
    return replace(trained, network=with_head(trained.module(), empty).eval())
