"""The search for a smaller model inside an accuracy budget."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from acclimate.compression.candidates import ORIGINAL, CandidateFolder
from acclimate.compression.compress import check_budget, compress
from acclimate.compression.settings import Compress
from acclimate.errors import BudgetMissed, DataError, ModelFileError, OutputError, RecipeError
from acclimate.models.classifier import Classifier
from acclimate.models.onnx.export import export
from acclimate.models.pretrained import PRETRAINED
from acclimate.models.runtime import run_onnx
from kit import CONTRACT, Recorder, tiny_pretrained

FEW = {"calibration_images": 24, "ranking_images": 64, "target": "size"}
INT8 = Compress(allow=("quantize",), max_accuracy_drop=30, portable=False, **FEW)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def here(context, folder):
    return replace(context, workspace=folder, progress=Recorder())


@pytest.fixture(scope="module")
def search(trained, dataset, policy, here, folder):
    """A model and the table of its search, read before other tests search in the same folder."""
    return compress(trained, dataset, policy, INT8, context=here), table(folder)


@pytest.fixture(scope="module")
def small(search):
    """The smallest int8 form of a small network. Never changed."""
    return search[0]


@pytest.fixture(scope="module")
def rows(search):
    """Name of each candidate to its line of the table."""
    return search[1]


def table(folder):
    with (folder / "candidates.csv").open() as lines:
        return {row["candidate"]: row for row in csv.DictReader(lines)}


def test_the_result_is_smaller_and_predicts_alike(small, trained, dataset):
    assert small.precision == "int8"
    figures = small.card.steps[-1].figures
    assert figures["size_ratio"] < 0.7
    assert figures["limits_met"] == 1
    images = np.stack([CONTRACT.read(dataset.path(row)) for row in dataset.rows("test")])
    exported = export(trained, dataset)
    same = run_onnx(small, "cpu")(images).argmax(1) == run_onnx(exported, "cpu")(images).argmax(1)
    assert same.mean() > 0.85


def test_the_bound_counts_all_comparisons(small, here, rows):
    figures = small.card.steps[-1].figures
    compared = [row for row in rows.values() if row["flips"]]
    assert figures["comparisons"] == len(compared) >= 2
    assert figures["accuracy_drop_bound"] > max(0, figures["accuracy_drop"])
    said = "\n".join(here.progress.lines)
    assert f"val has {figures['val_images']:.0f} images, which can rule out a drop of" in said


def test_every_candidate_is_kept_with_its_figures(small, folder, rows):
    assert {"int8-u8s8-minmax", "int8-u8s7-minmax", "int8-u8u8-minmax", "int8-s8s8-minmax"} < set(
        rows
    )
    (chosen,) = [row for row in rows.values() if row["chosen"]]
    assert int(chosen["size_bytes"]) == len(small.graph)
    assert len(small.graph) == min(int(row["size_bytes"]) for row in rows.values() if row["drop"])
    for name, row in rows.items():
        assert int(row["size_bytes"]) > 0
        assert row["macs"] == rows[ORIGINAL]["macs"]
        assert (row["divergence"] == "") is (name == ORIGINAL)
    assert (folder / "pareto.svg").read_text().startswith("<svg")


def test_the_same_call_makes_nothing_anew(small, trained, dataset, policy, here, folder):
    def changes():
        return {p: p.stat().st_mtime_ns for p in folder.glob("*/candidate.json")}

    before = changes()
    again = compress(trained, dataset, policy, INT8, context=here)
    assert again.digest == small.digest
    assert changes() == before


def test_another_budget_uses_the_same_candidates(small, trained, dataset, policy, here):
    strict = INT8.model_copy(update={"max_size_mb": 1e-3})
    kept = compress(trained, dataset, policy, strict, context=here)
    assert kept.precision == "float32"
    assert kept.digest == trained.digest
    with pytest.raises(BudgetMissed, match="no candidate is within the limits"):
        check_budget(kept, strict)


def test_a_candidate_can_be_picked_by_name(small, trained, dataset, policy, here):
    pick = INT8.model_copy(update={"pick": "int8-s8s8-minmax"})
    picked = compress(trained, dataset, policy, pick, context=here)
    assert picked.card.steps[-1].notes[0].startswith("int8-s8s8-minmax: ")
    with pytest.raises(RecipeError, match="no candidate 'int8-s8s8'"):
        compress(
            trained, dataset, policy, INT8.model_copy(update={"pick": "int8-s8s8"}), context=here
        )


def test_a_budget_that_val_cannot_show_is_an_estimate(small, trained, dataset, policy, here):
    """On 40 images not even an equal model is shown to lose less than a point."""
    fine = INT8.model_copy(update={"max_accuracy_drop": 5.0})
    made = compress(trained, dataset, policy, fine, context=here)
    if made.precision == "int8":
        assert "val images cannot show" in made.card.steps[-1].notes[0]
        with pytest.raises(BudgetMissed, match="cannot show that it is within the budget of 5"):
            check_budget(made, fine)
        check_budget(made, fine.model_copy(update={"accept_estimate": True}))
    check_budget(small, INT8)


def test_the_folder_of_another_model_is_refused(small, blank, dataset, here):
    with pytest.raises(OutputError, match="candidates of another model, data set or seed"):
        compress(blank, dataset, None, INT8, context=here)


def test_only_portable_int8_is_tried_where_sums_may_be_clipped(trained, dataset, context):
    recorder = Recorder()
    settings = INT8.model_copy(update={"portable": True})
    compress(trained, dataset, None, settings, context=replace(context, progress=recorder))
    tried = {line.split(":")[1].strip() for line in recorder.lines if "divergence" in line}
    assert {name.split("-")[1] for name in tried} == {"u8s7", "u8u8"}


def test_an_int8_model_is_refused(small, dataset):
    with pytest.raises(ModelFileError, match="is int8 already"):
        compress(small, dataset)


def test_data_without_val_images_is_refused(trained, dataset):
    split = ["train" if name == "val" else name for name in dataset.table["split"].to_pylist()]
    with pytest.raises(DataError, match="no val image to hold the accuracy budget on"):
        compress(trained, dataset.with_columns({"split": split}))


@pytest.mark.slow
def test_pruned_networks_and_recovered_int8_are_candidates_too(
    trained, dataset, policy, context, tmp_path
):
    settings = Compress(epochs=1, prune_ratios=(0.3,), max_accuracy_drop=0.01, students=(), **FEW)
    here = replace(context, workspace=tmp_path)
    compress(trained, dataset, policy, settings, context=here)
    rows = table(tmp_path)
    pruned = rows["pruned0.3"]
    assert int(pruned["macs"]) < int(rows[ORIGINAL]["macs"])
    assert pruned["drop"]
    folder = CandidateFolder(tmp_path, _key(trained, dataset, context))
    assert folder.pick("pruned0.3").looks == 2
    assert not list(tmp_path.glob("*/work"))
    loaded = folder.load(folder.pick("pruned0.3"))
    assert isinstance(loaded, Classifier)
    assert loaded.card.steps[-1].stage == "prune"


@pytest.mark.slow
def test_a_smaller_network_taught_by_the_original_is_a_candidate(
    trained, dataset, policy, context, tmp_path, monkeypatch
):
    monkeypatch.setitem(PRETRAINED, "packaged", tiny_pretrained)
    settings = Compress(
        allow=("distill",), students=("efficientnet-lite0",), epochs=2, max_accuracy_drop=100, **FEW
    )
    compress(trained, dataset, policy, settings, context=replace(context, workspace=tmp_path))
    row = table(tmp_path)["student-efficientnet-lite0"]
    assert float(row["drop"]) < 90
    assert row["p50_ms"]


def _key(model, dataset, context):
    return {"model": model.digest, "data": dataset.digest, "seed": context.seed}
