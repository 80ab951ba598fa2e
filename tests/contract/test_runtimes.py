"""One suite over every way to run a classifier."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from acclimate.errors import AcclimateError, ModelFileError
from acclimate.models.onnx.export import to_onnx
from acclimate.models.pretrained import wrap
from acclimate.models.runtime import RUNTIMES


@pytest.fixture(scope="module")
def model():
    """A small network with its graph. Never changed."""
    torch.manual_seed(0)
    small = wrap(timm.create_model("test_efficientnet", num_classes=4))
    small = replace(small, contract=replace(small.contract, image_size=32))
    return replace(small, graph=to_onnx(small))


@pytest.fixture(scope="module")
def images(dataset, model):
    """uint8 (6, 32, 32, 3): real digits. Read only."""
    return np.stack([model.contract.read(dataset.path(row)) for row in dataset.rows("val")[::7]])


LACKING = {"torch": {"network": None}, "onnx": {"graph": None}}


def test_every_runtime_is_tried():
    assert set(RUNTIMES) == set(LACKING)
    assert len(RUNTIMES) == 2


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_gives_the_logits_of_the_network(name, model, images):
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(model.contract.normalize(images))).numpy()
    found = RUNTIMES[name](model, "cpu")(images)
    assert (found.dtype, found.shape) == (np.float32, (len(images), 4))
    assert np.allclose(found, expected, atol=1e-4)
    assert np.ptp(found, axis=0).max() > 1e-3, "images that all look the same show nothing"


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_image_gives_the_same_logits_alone_as_among_others(name, model, images):
    run = RUNTIMES[name](model, "cpu")
    alone = np.concatenate([run(images[i : i + 1]) for i in range(len(images))])
    assert np.allclose(run(images), alone, atol=1e-4)
    assert np.allclose(run(images[::-1].copy())[::-1], alone, atol=1e-4)


@pytest.mark.parametrize("name", RUNTIMES)
def test_running_twice_gives_the_same_and_leaves_the_images(name, model, images):
    run, before = RUNTIMES[name](model, "cpu"), images.copy()
    assert (run(images) == run(images)).all()
    assert (images == before).all()


@pytest.fixture
def _every_warning():
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.usefixtures("_every_warning")
@pytest.mark.parametrize("name", RUNTIMES)
def test_images_of_any_layout_are_taken_without_a_warning(name, model, images):
    run = RUNTIMES[name](model, "cpu")
    read_only = images.copy()
    read_only.flags.writeable = False
    for view, same in [
        (read_only, images),
        (images[::-1], images[::-1].copy()),
        (images[:, :, ::-1], images[:, :, ::-1].copy()),
    ]:
        assert np.allclose(run(view), run(same), atol=1e-4)


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_contract_of_the_classifier_is_applied(name, model, images):
    darker = replace(model, contract=replace(model.contract, mean=(0.9, 0.9, 0.9)))
    plain, changed = (RUNTIMES[name](m, "cpu")(images) for m in (model, darker))
    assert np.abs(plain - changed).max() > 1e-3


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_classifier_that_lacks_what_a_runtime_needs_is_refused(name, model):
    with pytest.raises(ModelFileError) as caught:
        RUNTIMES[name](replace(model, **LACKING[name]), "cpu")
    assert isinstance(caught.value, AcclimateError)
    assert "\n" not in str(caught.value)
