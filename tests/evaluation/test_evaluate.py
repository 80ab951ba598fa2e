"""What a classifier says of every image, and the figures that follow."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.data.images.contract import InputContract
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.errors import DataError, ModelFileError
from acclimate.evaluation.evaluate import Evaluation, evaluate, shipped_bytes, softmax
from acclimate.evaluation.settings import Evaluate
from acclimate.models.classifier import Card, Classifier, StepRecord
from acclimate.models.runtime import run_torch
from acclimate.models.structure import with_head
from kit import Recorder, tiny_classifier

QUICK = Evaluate(bootstrap=200, latency=False)
JUDGE = Clean(val=0.0, test=1.0)


@pytest.fixture(scope="module")
def found(start, dataset, context):
    """The probe on test digits and their shifted copies. Never changed."""
    return evaluate(start, dataset, QUICK, context=context, name="probe")


@pytest.fixture(scope="module")
def small():
    """A network that looks at the mean colour only, of the digits' classes. Never changed."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
    contract = InputContract(16, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    classes = tuple(str(digit) for digit in range(10))
    return Classifier("module:small", network.eval(), classes, contract, Card("me", "MIT"))


def direct(model, dataset, rows):
    pixels = np.stack([model.contract.read(dataset.path(row)) for row in rows])
    return run_torch(model, "cpu")(pixels)


def permuted(model, order):
    """The same classifier with its outputs in another order."""
    layer = model.network.classifier
    moved = nn.Linear(layer.in_features, layer.out_features)
    with torch.no_grad():
        moved.weight.copy_(layer.weight[order])
        moved.bias.copy_(layer.bias[order])
    classes = tuple(model.classes[i] for i in order)
    return replace(model, network=with_head(model.network, moved).eval(), classes=classes)


def test_every_test_image_of_every_domain_is_judged_once(found, dataset):
    rows = dataset.rows("test", domain=None)
    assert found.table.num_rows == len(rows) == 160
    assert sorted(found.table["path"].to_pylist()) == sorted(dataset.paths[row] for row in rows)
    assert list(found.metrics) == ["home", "shifted"]
    assert found.split == "test"


@pytest.mark.parametrize("domain", ["home", "shifted"])
def test_figures_are_of_the_images_of_their_domain(found, start, dataset, domain):
    rows = dataset.rows("test", domain=domain)
    right = direct(start, dataset, rows).argmax(1) == dataset.labels[rows]
    assert found.metrics[domain]["accuracy"].value == pytest.approx(right.mean())
    table = found.confusion(domain)
    assert table.shape == (10, 10)
    assert table.sum() == len(rows)
    assert np.diag(table).sum() == right.sum()
    outcomes = found.outcomes(domain)
    assert (outcomes.labels == dataset.labels[rows]).all()
    assert outcomes.num_classes == 10


def test_digits_are_known_far_above_chance_and_shifted_ones_less_well(found):
    home, shifted = (found.metrics[d]["accuracy"] for d in ("home", "shifted"))
    assert home.low > 0.5
    assert 0.1 < shifted.value < home.value


def test_each_image_keeps_its_five_best_classes_and_its_loss(found, start, dataset):
    rows = dataset.rows("test", domain="home")
    expected = softmax(direct(start, dataset, rows))
    table = found.table.slice(0, len(rows))
    assert table["path"].to_pylist() == [dataset.paths[row] for row in rows]
    ids = np.asarray(table["top_classes"].to_pylist())
    kept = np.asarray(table["top_probabilities"].to_pylist())
    assert ids.shape == kept.shape == (len(rows), 5)
    assert (np.diff(kept, axis=1) <= 0).all()
    assert np.allclose(kept, -np.sort(-expected, 1)[:, :5], atol=1e-4)
    assert np.allclose(kept, np.take_along_axis(expected, ids, 1), atol=1e-4)
    truth = expected[np.arange(len(rows)), dataset.labels[rows]]
    assert np.allclose(table["loss"].to_numpy(), -np.log(truth), atol=1e-2)


def test_an_evaluation_says_what_was_measured_on_what(found, start, dataset):
    assert found.name == "probe"
    assert found.classifier_digest == start.digest
    assert found.dataset_digest == dataset.digest
    assert (found.runtime, found.precision, found.latency) == ("torch", "float32", None)
    assert found.size_bytes == 4 * start.parameters
    assert found.settings["bootstrap"] == 200


def test_the_size_is_that_of_the_file_that_would_be_shipped(small):
    assert shipped_bytes(small) == 4 * (3 * 10 + 10)
    assert shipped_bytes(replace(small, graph=b"x" * 77)) == 77


def test_times_are_measured_when_asked_for(small, dataset, context):
    timed = evaluate(small, dataset, Evaluate(bootstrap=100), context=context)
    assert timed.name == "small"
    assert timed.latency.p50_ms <= timed.latency.p95_ms
    assert timed.latency.images_per_s > 0
    quiet = evaluate(small, dataset, Evaluate(bootstrap=100, latency=False), context=context)
    assert quiet.table == timed.table


def test_one_seed_gives_one_set_of_intervals(small, dataset, context):
    first, second, other = (
        evaluate(small, dataset, QUICK, context=replace(context, seed=seed)) for seed in (5, 5, 6)
    )
    assert first.metrics == second.metrics
    assert first.digest == second.digest
    assert first.table == other.table
    differs = [
        first.metrics["home"][name] != other.metrics["home"][name]
        for name in ("macro_f1", "accuracy")
    ]
    assert any(differs)


def test_another_confidence_gives_other_intervals_of_the_same_figures(small, dataset, context):
    wide, narrow = (
        evaluate(
            small, dataset, Evaluate(bootstrap=500, confidence=c, latency=False), context=context
        ).metrics["home"]["calibration_error"]
        for c in (0.99, 0.6)
    )
    assert wide.value == narrow.value
    assert wide.low < narrow.low
    assert narrow.high < wide.high


# Classes


def test_the_order_of_the_classifiers_classes_does_not_matter(found, start, dataset, context):
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    other = evaluate(permuted(start, order), dataset, QUICK, context=context)
    assert other.metrics["home"]["accuracy"].value == found.metrics["home"]["accuracy"].value
    assert (other.confusion("home") == found.confusion("home")[np.ix_(order, order)]).all()
    assert np.allclose(other.table["loss"].to_numpy(), found.table["loss"].to_numpy(), atol=1e-4)


def test_data_of_some_of_the_classes_is_fine(found, start, digits, context):
    others = tuple(str(digit) for digit in range(10) if digit not in (1, 7))
    pair = clean(read(digits, Source(leave_out_classes=others)), context=context)
    assert pair.classes == ("1", "7")
    some = evaluate(start, pair, QUICK, context=context)
    assert some.classes == start.classes
    everything = found.confusion("home")
    assert (some.confusion("home")[[1, 7]] == everything[[1, 7]]).all()
    assert some.confusion("home").sum() == everything[[1, 7]].sum()


@pytest.fixture
def flowers(tmp_path):
    """`<class>/<number>.png` of two classes that are no digits."""
    for name, shade in (("rose", 30), ("tulip", 200)):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for number in range(2):
            pixels = np.full((20, 20, 3), shade + number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "flowers" / name / f"{number}.png")
    return tmp_path / "flowers"


def test_a_class_the_model_does_not_know_is_refused_with_the_nearest_name(small, flowers, context):
    data = clean(read(flowers), JUDGE, context=context)
    known = replace(small, classes=("roses", "tulip", *(f"{i}" for i in range(8))))
    with pytest.raises(DataError) as caught:
        evaluate(known, data, QUICK, context=context)
    assert str(caught.value) == (
        "small: data has classes the model does not know: 'rose'. Did you mean 'roses'? "
        "Fine-tune the model on this data first, or leave these classes out with "
        "--set data.leave_out_classes=[...]."
    )


def test_all_classes_the_model_does_not_know_are_named(small, flowers, context):
    data = clean(read(flowers), JUDGE, context=context)
    with pytest.raises(DataError, match=r"does not know: 'rose', 'tulip'\. Known: 0, 1, 2, 3,"):
        evaluate(small, data, QUICK, context=context)


def test_a_model_of_two_classes_keeps_both(flowers, context):
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    contract = InputContract(16, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    model = Classifier("module:two", network, ("rose", "tulip"), contract, Card("me", "MIT"))
    data = clean(read(flowers), JUDGE, context=context)
    found = evaluate(model, data, QUICK, context=context)
    assert found.table.num_rows == 4
    assert found.confusion("home").sum() == 4
    both = np.asarray(found.table["top_probabilities"].to_pylist())
    assert both.shape == (4, 2)
    assert np.allclose(both.sum(1), 1, atol=1e-5)


# Which images judge


@pytest.mark.parametrize(("empty", "other"), [("test", "val"), ("val", "test")])
def test_an_empty_split_is_refused_with_a_way_out(small, dataset, digits, context, empty, other):
    keep = dataset.keep.copy()
    keep[dataset.rows(empty, domain=None)] = False
    data = dataset.with_columns({"keep": keep})
    with pytest.raises(DataError) as caught:
        evaluate(small, data, Evaluate(split=empty, latency=False), context=context)
    assert str(caught.value) == (
        f"{digits}: there are no labelled images in the {empty} split. "
        f"Choose another with --set split={other}, or add some."
    )


def test_another_split_judges_when_asked(small, dataset, context):
    settings = Evaluate(split="val", bootstrap=100, latency=False)
    found = evaluate(small, dataset, settings, context=context)
    assert found.split == "val"
    assert found.table.num_rows == len(dataset.rows("val"))
    assert list(found.metrics) == ["home"]


def test_images_left_out_or_without_a_label_do_not_judge(small, dataset, context):
    rows = dataset.rows("test")
    keep, labels = dataset.keep.copy(), dataset.table["label"].cast("string").to_pylist()
    keep[rows[0]], labels[rows[1]] = False, None
    found = evaluate(
        small, dataset.with_columns({"keep": keep, "label": labels}), QUICK, context=context
    )
    judged = found.table["path"].to_pylist()
    assert len(judged) == 158
    assert dataset.paths[rows[0]] not in judged
    assert dataset.paths[rows[1]] not in judged


def test_a_runtime_that_cannot_be_had_is_refused(small, dataset, context):
    settings = Evaluate(runtime="onnx", latency=False)
    with pytest.raises(ModelFileError) as caught:
        evaluate(small, dataset, settings, context=context)
    assert str(caught.value) == "small was not exported to ONNX."


# On disk


def test_what_is_saved_is_what_is_loaded(found, tmp_path):
    found.save(tmp_path / "probe.eval")
    again = Evaluation.load(tmp_path / "probe.eval")
    assert again.table == found.table
    assert again == replace(found, table=again.table)
    assert again.digest == found.digest
    assert (again.confusion("shifted") == found.confusion("shifted")).all()
    assert [p.name for p in tmp_path.iterdir()] == ["probe.eval"]


def test_times_survive_the_disk(small, dataset, context, tmp_path):
    timed = evaluate(small, dataset, Evaluate(bootstrap=100), context=context)
    timed.save(tmp_path / "timed")
    assert Evaluation.load(tmp_path / "timed").latency == timed.latency


@pytest.fixture
def saved(found, tmp_path):
    """A saved evaluation to spoil."""
    found.save(tmp_path / "probe.eval")
    return tmp_path / "probe.eval"


def refusal(folder):
    with pytest.raises(DataError) as caught:
        Evaluation.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder, **values):
    path = folder / "evaluation.json"
    record = json.loads(path.read_text())
    record.update(values)
    path.write_text(json.dumps({k: v for k, v in record.items() if v is not ...}))


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": []},
        {"metrics": {"home": []}},
        {"metrics": ...},
        {"classes": None},
        {"latency": {"p50": 1}},
        {"split": ...},
    ],
    ids=repr,
)
def test_a_damaged_record_is_refused(saved, change):
    edit(saved, **change)
    assert refusal(saved).startswith(f"{saved}: the evaluation is damaged (")


def test_a_damaged_table_is_refused(saved):
    path = saved / "images.parquet"
    table, content = pq.read_table(path), path.read_bytes()
    pq.write_table(table.drop(["loss"]), path)
    assert refusal(saved).startswith(f"{saved}: the evaluation is damaged (")
    path.write_bytes(content[:-20])
    assert refusal(saved).startswith(f"{saved}: the evaluation is damaged (")
    path.unlink()
    assert refusal(saved).startswith(f"{saved}: the evaluation is damaged (")


def test_a_folder_without_an_evaluation_says_what_to_run(tmp_path, saved):
    assert refusal(tmp_path) == (
        f"{tmp_path}: not an evaluation: the folder has no evaluation.json. "
        "Run `acclimate evaluate` first."
    )
    (saved / "evaluation.json").write_text("{")
    assert "file is not valid JSON" in refusal(saved)


def test_a_newer_format_is_refused(saved):
    edit(saved, format=2)
    told = "evaluation was written by a newer acclimate. Upgrade acclimate."
    assert refusal(saved) == f"{saved}/evaluation.json: {told}"


def test_a_file_without_a_format_is_refused(saved):
    edit(saved, format="1")
    assert refusal(saved) == f"{saved}/evaluation.json: not a valid evaluation file."


def test_an_image_that_broke_since_it_was_cleaned_is_named(small, digits, tmp_path, context):
    shutil.copytree(digits / "test", tmp_path / "photos")
    data = clean(read(tmp_path / "photos"), JUDGE, context=context)
    broken = data.path(data.rows("test")[30])
    broken.write_bytes(b"broken")
    with pytest.raises(DataError) as caught:  # what was kept of the image would still serve
        evaluate(small, data, QUICK, context=replace(context, cache_gb=0))
    assert str(caught.value).startswith(f"{broken}: ")


# Images that the model was made with


@pytest.fixture(scope="module")
def made_with_all(digits, tmp_path_factory, context):
    """A network that was made with a folder, and the folder as data to evaluate on."""
    folder = tmp_path_factory.mktemp("photos")
    for label in ("0", "1"):
        shutil.copytree(digits / "train" / label, folder / label)
    data = clean(read(folder), context=context)
    model = tiny_classifier(data.classes).after(StepRecord("probe"), trained_on=data)
    return model, data, clean(read(folder), JUDGE, context=context)


def test_images_that_the_model_was_made_with_are_left_out_of_the_figures(made_with_all, context):
    model, data, everything = made_with_all
    recorder = Recorder()
    found = evaluate(model, everything, QUICK, context=replace(context, progress=recorder))
    train, val, test = (len(data.rows(split)) for split in ("train", "val", "test"))
    assert len(found.table) == train + val + test
    assert found.counted.sum() == len(found.outcomes("home").labels) == test
    assert found.remark == (
        f"of {train + val + test} images, {train} were trained on and {val} chose the epochs; "
        f"they are left out, and the figures are of the other {test}."
    )
    assert f"evaluate: {found.remark}" in recorder.lines
    own = evaluate(model, data, QUICK, context=context)
    assert own.remark is None
    assert own.metrics["home"]["accuracy"].value == found.metrics["home"]["accuracy"].value


def test_training_images_that_are_included_are_marked(made_with_all, context, tmp_path):
    model, data, everything = made_with_all
    settings = QUICK.model_copy(update={"include_training": True})
    found = evaluate(model, everything, settings, context=context)
    assert len(found.outcomes("home").labels) == len(everything.rows("test"))
    assert found.remark.endswith("they are included, so the figures are too high.")
    found.save(tmp_path / "evaluation")
    assert Evaluation.load(tmp_path / "evaluation").remark == found.remark
    on_val = evaluate(model, data, QUICK.model_copy(update={"split": "val"}), context=context)
    count = len(data.rows("val"))
    assert on_val.remark == (
        f"of {count} images, {count} chose the epochs; "
        "they are included, so the figures are too high."
    )


def test_nothing_but_training_images_is_refused(made_with_all, context):
    model, data, _ = made_with_all
    moved = data.with_columns({"split": ["test" if s == 0 else None for s in data.splits]})
    with pytest.raises(DataError) as error:
        evaluate(model, moved, QUICK, context=context)
    count = len(data.rows("train"))
    assert error.value.message == (
        f"the model was made with these images: of {count} images, {count} were trained on."
    )
    assert "--include-training" in error.value.hint


def test_evaluations_of_older_versions_have_no_training_images(found, tmp_path):
    found.save(tmp_path / "e")
    table = pq.read_table(tmp_path / "e" / "images.parquet").drop_columns(["used_for"])
    pq.write_table(table, tmp_path / "e" / "images.parquet")
    assert Evaluation.load(tmp_path / "e").remark is None
