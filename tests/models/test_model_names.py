"""A name in another spelling, or of another library, is answered with the name to type."""

import pytest
import timm

from acclimate.errors import ModelFileError
from acclimate.models.model_names import OTHER_NAMES, PACKAGED, near_model_names
from acclimate.models.pretrained import pretrained
from acclimate.models.settings import Model

MEANT = {
    "efficientnet_lite0": "efficientnet-lite0",
    "EfficientNet_Lite0": "efficientnet-lite0",
    "EfficientNetLite1": "efficientnet-lite1",
    "efficientnet-lite4": "timm:efficientnet_lite4",
    "resnet50": "timm:resnet50",
    "resnet-50": "timm:resnet50",
    "ResNet50": "timm:resnet50",
    "microsoft/resnet-50": "timm:resnet50",
    "resnet50.a1_in1k": "timm:resnet50.a1_in1k",
    "timm/resnet50.a1_in1k": "timm:resnet50.a1_in1k",
    "resnet18.pth": "timm:resnet18",
    "EfficientNetB0": "timm:efficientnet_b0",
    "EfficientNetV2S": "timm:tf_efficientnetv2_s",
    "MobileNetV3Large": "timm:mobilenetv3_large_100",
    "InceptionResNetV2": "timm:inception_resnet_v2",
    "ConvNeXtTiny": "timm:convnext_tiny",
    "vit_b_16": "timm:vit_base_patch16_224",
    "google/vit-base-patch16-224": "timm:vit_base_patch16_224",
    "swin_t": "timm:swin_tiny_patch4_window7_224",
}


def names():
    return [*PACKAGED, *(f"timm:{name}" for name in timm.list_models())]


@pytest.mark.parametrize("name", MEANT)
def test_another_spelling_is_answered_with_the_name_to_type(name):
    assert near_model_names(name, names()) == f"Did you mean {MEANT[name]!r}?"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnte50", "Did you mean 'timm:resnet50' or 'timm:resnet50t'?"),
        (
            "efficientnet-lite9",
            "Did you mean 'efficientnet-lite2' or 'efficientnet-lite1'?",
        ),
        ("lite0", "Did you mean 'efficientnet-lite0' or 'timm:tf_efficientnet_lite0'?"),
        ("yolov8n-cls", "`acclimate models available` lists the names."),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(name, hint):
    assert near_model_names(name, names()) == hint


def test_every_other_name_leads_to_weights_that_timm_has():
    for name in OTHER_NAMES.values():
        assert timm.list_models(f"{name}*", pretrained=True), name


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("ResNet-50", "no model or model folder 'ResNet-50'. Did you mean 'timm:resnet50'?"),
        ("timm:ResNet-50", "timm has no architecture 'ResNet-50'. Did you mean 'resnet50'?"),
    ],
)
def test_a_model_under_a_wrong_name_is_not_loaded(name, error):
    with pytest.raises(ModelFileError) as caught:
        pretrained(Model(name=name))
    assert str(caught.value) == error
