"""Somebody else's ONNX file: whatever its ends are, it answers as it did where it came from."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import acclimate
from acclimate.compression.settings import Quantize
from acclimate.compression.static_int8 import SCHEMES, quantize_with
from acclimate.errors import ModelFileError
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import from_onnx, read_metadata
from acclimate.models.runtime import run_onnx

SIZE, CLASSES = 32, ("ant", "bee", "cat", "dog")
RNG = np.random.default_rng(0)
STEM = RNG.normal(0, 0.3, (8, 3, 5, 5))
HEAD = RNG.normal(0, 1.5, (8, 4))
PIXELS = RNG.integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
FLOAT, HALF, BYTES = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
SPREAD = {FLOAT: 1.0, HALF: 1.0, BYTES: 255.0}


def graph(
    shape=("n", 3, SIZE, SIZE), *, kind=FLOAT, softmax=False, flat=True, extra=(), name="images",
    domain="",
):  # fmt: skip
    """A small network. Its tensors bear the names of our own ends on purpose."""
    last = shape[1] != 3
    inner = HALF if kind == HALF else FLOAT
    numpy_kind = helper.tensor_dtype_to_np_dtype(inner)
    weights = [
        numpy_helper.from_array((STEM / SPREAD[kind]).astype(numpy_kind), "stem"),
        numpy_helper.from_array(HEAD.astype(numpy_kind), "head"),
    ]
    nodes, at = [], name
    if kind == BYTES:
        nodes.append(helper.make_node("Cast", [at], [at := "float"], to=FLOAT))
    if last:
        nodes.append(helper.make_node("Transpose", [at], [at := "turned"], perm=[0, 3, 1, 2]))
    nodes += [
        helper.make_node("Conv", [at, "stem"], ["a"], strides=[3, 3]),
        helper.make_node("Relu", ["a"], ["images/1"]),
        helper.make_node("GlobalAveragePool", ["images/1"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "head"], ["e"], domain=domain),
        helper.make_node("Softmax" if softmax else "Identity", ["e"], ["logits" if flat else "f"]),
    ]
    if not flat:
        nodes.append(helper.make_node("Unsqueeze", ["f", "axis"], ["logits"]))
        weights.append(numpy_helper.from_array(np.int64([2]), "axis"))
    body = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("logits", inner, None),
         *(helper.make_tensor_value_info(more, inner, None) for more in extra)],
        weights,
    )  # fmt: skip
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def saved(model, folder, **description):
    """The file, and what is said of it beside it."""
    onnx.save(model, folder / "theirs.onnx")
    if description:
        lines = [f"{name}: {list(v) if isinstance(v, tuple) else v}\n".replace("'", "")
                 for name, v in description.items()]  # fmt: skip
        (folder / "theirs.onnx.yaml").write_text("".join(lines))
    return folder / "theirs.onnx"


def expected(pixels, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    """What the network says, without acclimate and without its own ends."""
    numbers = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    session = ort.InferenceSession(graph().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": numbers})[0]


def log_softmax(logits):
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("shape", [
    ("n", 3, SIZE, SIZE), (1, 3, SIZE, SIZE), ("n", SIZE, SIZE, 3), ("n", 3, "h", "w"),
    (None, "h", None, 3), ("n", 3, SIZE, "w"),
])  # fmt: skip
@pytest.mark.parametrize("kind", [FLOAT, HALF])
def test_it_answers_as_it_did_whatever_its_ends(kind, shape, softmax, tmp_path):
    size = {} if SIZE in shape else {"image_size": SIZE}
    place = saved(graph(shape, kind=kind, softmax=softmax), tmp_path, classes=CLASSES, **size)
    model = from_onnx(place)
    assert (model.classes, model.contract.image_size) == (CLASSES, SIZE)
    said = run_onnx(model, "cpu")(PIXELS)
    wanted = expected(PIXELS)
    assert np.ptp(wanted) > 1
    if softmax:
        wanted = log_softmax(wanted)
        assert "logarithms" in model.card.steps[-1].notes[-1]
    assert np.allclose(said, wanted, atol=0.03 if kind == HALF else 1e-4)


def test_bytes_are_given_as_bytes(tmp_path):
    model = from_onnx(saved(graph(kind=BYTES), tmp_path, classes=CLASSES))
    wanted = expected(PIXELS, (0, 0, 0), (1, 1, 1))
    assert np.allclose(run_onnx(model, "cpu")(PIXELS), wanted, atol=1e-3)


def test_views_beyond_the_range_of_bytes_are_cut_off(tmp_path):
    model = from_onnx(saved(graph(kind=BYTES), tmp_path, classes=CLASSES))
    session = ort.InferenceSession(model.graph, providers=["CPUExecutionProvider"])
    ends, beyond = np.float32([[0.0], [1.0]]), np.float32([[-0.2], [1.3]])
    said = [session.run(None, {"images": np.tile(one[:, :, None, None], (1, 3, SIZE, SIZE))})[0]
            for one in (ends, beyond)]  # fmt: skip
    assert np.array_equal(*said)


def test_its_statistics_are_those_that_are_told(tmp_path):
    told = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    model = from_onnx(saved(graph(), tmp_path, classes=CLASSES, **told))
    assert np.allclose(run_onnx(model, "cpu")(PIXELS), expected(PIXELS, **told), atol=1e-4)


def test_what_its_outputs_are_may_be_told(tmp_path):
    soft = saved(graph(softmax=True), tmp_path, classes=CLASSES, outputs="logits")
    assert np.allclose(run_onnx(from_onnx(soft), "cpu")(PIXELS).sum(1), 1, atol=1e-4)


def test_python_tells_it_in_keywords(tmp_path):
    model = acclimate.read_onnx(saved(graph(), tmp_path), classes=CLASSES[::-1])
    assert model.classes == CLASSES[::-1]
    assert np.allclose(run_onnx(model, "cpu")(PIXELS), expected(PIXELS), atol=1e-4)


def test_classes_that_are_numbers_are_names(tmp_path):
    assert from_onnx(saved(graph(), tmp_path, classes=(0, 1, 4, 7))).classes == tuple("0147")


def test_it_is_saved_as_one_folder_that_needs_no_description(tmp_path):
    place = saved(graph(softmax=True), tmp_path, classes=CLASSES)
    model = from_onnx(place)
    model.save(tmp_path / "folder")
    place.with_name("theirs.onnx.yaml").unlink()
    back = Classifier.load(tmp_path / "folder")
    alone = from_onnx(tmp_path / "folder" / "model.onnx")
    assert read_metadata(back.graph) == (model.contract, CLASSES)
    for one in (back, alone):
        assert np.array_equal(run_onnx(one, "cpu")(PIXELS), run_onnx(model, "cpu")(PIXELS))
    assert back.digest == model.digest


def test_old_graphs_that_list_their_weights_as_inputs_are_read(tmp_path):
    model = graph()
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in model.graph.initializer
    )
    found = from_onnx(saved(model, tmp_path, classes=CLASSES))
    assert np.allclose(run_onnx(found, "cpu")(PIXELS), expected(PIXELS), atol=1e-4)


def test_weights_beside_the_file_are_brought_in(tmp_path):
    model = graph()
    onnx.external_data_helper.convert_model_to_external_data(
        model, location="theirs.onnx.data", size_threshold=0
    )
    found = from_onnx(saved(model, tmp_path, classes=CLASSES))
    (tmp_path / "theirs.onnx.data").unlink()
    assert np.allclose(run_onnx(found, "cpu")(PIXELS), expected(PIXELS), atol=1e-4)


def elsewhere(location, length=None):
    model = graph()
    tensor = next(t for t in model.graph.initializer if t.name == "stem")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    if length is not None:
        tensor.external_data.add(key="length", value=str(length))
    return model


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link", "none"])
def test_weights_outside_the_folder_are_not_read(location, tmp_path):
    (tmp_path / "secret").write_bytes(STEM.astype(np.float32).tobytes())
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "theirs.onnx").write_bytes(elsewhere(location).SerializeToString())
    with pytest.raises(ModelFileError, match="the external data of the ONNX file") as caught:
        acclimate.read_onnx(inside / "theirs.onnx", classes=CLASSES)
    assert caught.value.where == str(inside / "theirs.onnx")


def test_weights_longer_than_their_shape_are_refused(tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(100_000))
    (tmp_path / "theirs.onnx").write_bytes(elsewhere("w.bin", 100_000).SerializeToString())
    with pytest.raises(ModelFileError, match="the length of 'stem' is larger than its shape"):
        acclimate.read_onnx(tmp_path / "theirs.onnx", classes=CLASSES)


def test_weights_of_more_bytes_than_a_file_may_have_are_refused(tmp_path):
    model = elsewhere("w.bin")
    tensor = next(t for t in model.graph.initializer if t.name == "stem")
    tensor.dims[0] = 2**40
    (tmp_path / "theirs.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="larger than 2,000,000,000 bytes"):
        acclimate.read_onnx(tmp_path / "theirs.onnx", classes=CLASSES)


def cut(model, *, inputs=(), outputs=()):
    """The same network with more ends."""
    for name in outputs:
        model.graph.output.append(helper.make_tensor_value_info(name, FLOAT, None))
    for name in inputs:
        model.graph.input.append(helper.make_tensor_value_info(name, FLOAT, [1]))
    return model


@pytest.mark.parametrize(("model", "described", "told"), [
    (graph(), {"classes": CLASSES[:3]},
     "the ONNX file has 4 classes, but the description names 3. Name all classes"),
    (graph(), {"mean": (0, 0, 0)}, "the ONNX file has 4 classes, but the description names 0."),
    (graph(), {"classes": ("a", "b", "a", "c")}, "classes has the same name twice."),
    (graph(), {"classes": CLASSES, "image_size": 64},
     "the ONNX file takes images of 32 px, but image_size is 64."),
    (graph(("n", 3, "h", "w")), {"classes": CLASSES},
     "the ONNX file takes images of any size. Give image_size in its description."),
    (graph(("n", 3, SIZE, 64)), {"classes": CLASSES},
     "the ONNX file takes tensor(float) (n, 3, 32, 64), not square images."),
    (graph((8, 3, SIZE, SIZE)), {"classes": CLASSES},
     "the ONNX file has a fixed batch size of 8. Export it with a dynamic batch dimension"),
    (graph(kind=BYTES), {"classes": CLASSES, "mean": (0, 0, 0)},
     "the ONNX file takes bytes from 0 to 255, which mean and std do not apply to."),
    (graph(flat=False), {"classes": CLASSES},
     "the ONNX file returns (8, 4, 1) for 8 images, not a number per class."),
    (cut(graph(), outputs=["d"]), {"classes": CLASSES},
     "the ONNX file has 1 inputs (images) and 2 outputs (logits, d), not one of each. Extract"),
    (cut(graph(), inputs=["more"]), {"classes": CLASSES},
     "the ONNX file has 2 inputs (images, more) and 1 outputs (logits), not one of each."),
    (graph(domain="theirs.own"), {"classes": CLASSES}, "the ONNX file cannot be run ("),
])  # fmt: skip
def test_what_does_not_fit_is_told_in_one_sentence(model, described, told, tmp_path):
    place = saved(model, tmp_path, **described)
    with pytest.raises(ModelFileError) as caught:
        from_onnx(place)
    assert str(caught.value).startswith(f"{place}: {told}")


def test_other_inputs_than_images_are_refused(tmp_path):
    ends = [helper.make_tensor_value_info(n, FLOAT, ["n", 2, 8, 8]) for n in ("a", "b")]
    body = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", ends[:1], ends[1:])
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(ModelFileError, match=r"takes tensor\(float\) \(n, 2, 8, 8\), not images"):
        from_onnx(saved(model, tmp_path, classes=CLASSES))


def test_a_wrong_description_is_told_with_its_place(tmp_path):
    place = saved(graph(), tmp_path, clases=CLASSES)
    with pytest.raises(ModelFileError) as caught:
        from_onnx(place)
    assert str(caught.value) == (
        f"{place}.yaml: OnnxFile has no setting 'clases'. Did you mean 'classes'?"
    )


def test_without_a_description_it_is_said_what_to_write(tmp_path):
    with pytest.raises(ModelFileError) as caught:
        from_onnx(saved(graph(), tmp_path))
    told = str(caught.value)
    assert "has no input contract and classes in its metadata. If another program wrote it" in told


@pytest.mark.parametrize("batch", ["n", 1])
def test_it_is_quantized_like_any_other(batch, dataset, tmp_path):
    model = from_onnx(saved(graph((batch, 3, SIZE, SIZE)), tmp_path, classes=CLASSES))
    small = quantize_with(model, dataset, dataset.rows("train")[:9], Quantize(), SCHEMES[0])
    said = run_onnx(replace(model, graph=small), "cpu")(PIXELS)
    assert np.abs(said - expected(PIXELS)).max() < 0.3 * np.ptp(expected(PIXELS))
