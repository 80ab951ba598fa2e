"""What somebody means by a model and by data."""

import numpy as np
import onnx
import pytest
import timm
from PIL import Image
from torch import nn

from acclimate.api.inputs import as_context, as_dataset, as_evaluation_data, as_teachers
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.data.images.contract import InputContract
from acclimate.data.settings import Source
from acclimate.errors import DataError, ModelFileError, NotTrusted
from acclimate.models.onnx.export import to_onnx
from acclimate.models.settings import Model
from acclimate.progress import silent
from acclimate.registry.resolve import as_classifier
from acclimate.registry.settings import Register
from acclimate.registry.versions import Registry
from kit import CONTRACT, tiny_classifier


class Own(nn.Module):
    """A network of somebody's own, which says nothing of its input."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def small(dataset):
    """A small classifier of the digits. Never changed."""
    return tiny_classifier(dataset.classes)


@pytest.fixture
def photos(tmp_path):
    """`photos/<class>/<n>.png`: ten of each of two classes."""
    for label, shade in (("dark", 20), ("light", 200)):
        place = tmp_path / "photos" / label
        place.mkdir(parents=True)
        for n in range(10):
            Image.fromarray(np.full((40, 40, 3), shade + n, np.uint8)).save(place / f"{n}.png")
    return tmp_path / "photos"


def test_a_classifier_is_itself(small):
    assert as_classifier(small) is small


def test_a_folder_may_be_a_text_or_a_path(small, tmp_path):
    small.save(tmp_path / "model")
    assert as_classifier(tmp_path / "model").digest == small.digest
    assert as_classifier(str(tmp_path / "model")).digest == small.digest


def test_a_name_is_looked_up_with_its_settings():
    model = as_classifier("efficientnet-lite0", settings=Model(image_size=64))
    assert model.architecture == "timm:tf_efficientnet_lite0"
    assert model.contract.image_size == 64
    assert as_classifier("efficientnet-lite0").contract.image_size == 224


def test_an_onnx_file_knows_its_classes(small, tmp_path):
    (tmp_path / "model.onnx").write_bytes(to_onnx(small))
    model = as_classifier(tmp_path / "model.onnx")
    assert model.classes == small.classes
    assert model.contract == CONTRACT
    assert model.network is None


def test_a_module_needs_a_contract_and_the_message_says_how():
    model = as_classifier(Own(), contract=CONTRACT)
    assert model.contract == CONTRACT
    assert model.architecture.endswith("Own")
    assert len(model.classes) == 10
    with pytest.raises(ModelFileError) as caught:
        as_classifier(Own())
    assert str(caught.value) == (
        "Own has no input contract. Give contract=InputContract(image_size=..., "
        "mean=..., std=..., interpolation='bicubic', crop=1.0)."
    )


def test_a_network_of_timm_says_its_own_contract():
    model = as_classifier(timm.create_model("test_resnet", num_classes=7))
    assert model.architecture == "timm:test_resnet"
    assert model.contract == InputContract(160, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 0.95)


def test_a_module_that_is_training_is_left_training():
    network = Own().train()
    as_classifier(network, contract=CONTRACT)
    assert network.training


@pytest.mark.parametrize("reference", ["models:digits@champion", "models:digits/1"])
def test_a_registered_version_is_found_by_alias_and_number(small, reference, tmp_path):
    settings = Register(store=tmp_path / "store", key=None)
    store = Registry(settings)
    store.publish("digits", small)
    store.promote("digits", "1")
    assert as_classifier(reference, registry=settings).digest == small.digest


def test_a_registered_version_that_was_changed_is_not_trusted(small, tmp_path):
    settings = Register(store=tmp_path / "store")
    Registry(settings).publish("digits", small)
    file = next((tmp_path / "store" / "models").rglob("model.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(NotTrusted):
        as_classifier("models:digits/1", registry=settings)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("efficientnet-lite7", "no model or model folder 'efficientnet-lite7'. Did you mean "),
        ("resnet50", "no model or model folder 'resnet50'. Did you mean 'timm:resnet50'"),
        ("missing.onnx", "no model or model folder 'missing.onnx'. "),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, told):
    with pytest.raises(ModelFileError) as caught:
        as_classifier(name)
    assert str(caught.value).startswith(told)
    assert caught.value.exit_code == 2


def test_a_weights_file_asks_for_its_architecture(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ModelFileError, match="a weights file needs the name of its architecture"):
        as_classifier(tmp_path / "weights.safetensors")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="not a model folder: it has no"):
        as_classifier(tmp_path)


def test_a_file_that_is_no_onnx_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelFileError, match="not a valid ONNX file"):
        as_classifier(tmp_path / "model.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ModelFileError, match="not a valid ONNX file"):
        as_classifier(tmp_path / "empty.onnx")


def test_an_onnx_file_of_somebody_else_is_told_from_one_that_is_none(tmp_path):
    helper = onnx.helper
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph), tmp_path / "foreign.onnx")
    with pytest.raises(ModelFileError, match="the ONNX file has no input contract and classes"):
        as_classifier(tmp_path / "foreign.onnx")


def test_a_dataset_is_itself(dataset):
    assert as_dataset(dataset) is dataset
    assert as_evaluation_data(dataset) is dataset


def test_a_folder_is_read_cleaned_and_split(photos, context):
    for place in (photos, str(photos)):
        data = as_dataset(place, context=context)
        assert data.classes == ("dark", "light")
        assert {split: len(data.rows(split)) for split in ("train", "val", "test")} == {
            "train": 12,
            "val": 4,
            "test": 4,
        }
        assert data.table["digest"].null_count == 0


def test_a_bad_image_is_left_out_with_its_reason(photos, context):
    (photos / "dark" / "broken.png").write_bytes(b"no picture")
    data = as_dataset(photos, context=context)
    assert len(data.rows()) == 20
    assert len(data) == 21


def test_settings_of_reading_and_cleaning_are_obeyed(photos, context):
    data = as_dataset(photos, settings=Clean(val=0.5, test=0.0), context=context, source=Source())
    assert len(data.rows("val")) == 10
    assert len(data.rows("test")) == 0
    fewer = as_dataset(photos, source=Source(leave_out_classes=("dark",)), context=context)
    assert fewer.classes == ("light",)


def test_a_list_is_read(photos, context):
    rows = [f"{p.relative_to(photos)},{p.parent.name},train" for p in photos.rglob("*.png")]
    (photos / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    data = as_dataset(photos / "list.csv", context=context)
    assert data.classes == ("dark", "light")
    assert len(data.rows()) == 20


def test_a_saved_dataset_comes_back_as_it_was(dataset, tmp_path):
    dataset.save(tmp_path / "digits.parquet")
    back = as_dataset(tmp_path / "digits.parquet")
    assert isinstance(back, Dataset)
    assert back.digest == dataset.digest


def test_data_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        as_dataset(tmp_path / "nowhere")
    assert str(caught.value) == (
        f"{tmp_path / 'nowhere'}: no such file or folder. Check the spelling."
    )


def test_images_without_a_split_all_judge(photos, context):
    data = as_evaluation_data(photos, context=context)
    assert len(data.rows("test")) == 20
    assert len(data.rows("train")) == len(data.rows("val")) == 0


def test_a_single_image_of_a_class_can_judge(photos, context):
    for path in sorted((photos / "dark").iterdir())[1:]:
        path.unlink()
    assert as_evaluation_data(photos, context=context).counts("test") == {"dark": 1, "light": 10}


def test_images_with_splits_keep_them_for_judging(digits, dataset, context):
    data = as_evaluation_data(digits, context=context)
    assert len(data.rows("test")) == len(dataset.rows("test"))
    assert len(data.rows("train")) == len(dataset.rows("train"))


def test_teachers_are_models_in_any_form_and_functions(imagenet):
    def function(images):
        return images

    assert as_teachers(function) == [function]
    first, second, third = as_teachers(["efficientnet-lite0", function, imagenet])
    assert first.architecture == "timm:tf_efficientnet_lite0"
    assert (second, third) == (function, imagenet)
    assert as_teachers("efficientnet-lite0")[0].digest == first.digest


@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_shown_where_somebody_watches(watched, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: watched)
    assert (as_context(None).progress is silent) is not watched
    assert as_context(None, progress=silent).progress is silent
    assert as_context(Context()).progress is silent
