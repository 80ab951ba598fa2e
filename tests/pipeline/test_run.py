"""The main job from Python: what is run, what is kept, and what a stop leaves behind."""

import json
import os
import shutil
from dataclasses import replace
from importlib.metadata import version

import pytest
import timm
import torch
from filelock import FileLock
from safetensors.torch import save_file

from acclimate.context import Context
from acclimate.data.dataset import Dataset
from acclimate.errors import DataError, OutputError, RecipeError
from acclimate.models.classifier import Classifier
from acclimate.models.pretrained import pretrained
from acclimate.pipeline.machine import machine
from acclimate.pipeline.run import run
from acclimate.pipeline.stages import STAGES
from acclimate.pipeline.steps import STEPS
from acclimate.recipe import Recipe
from kit import Recorder

ALL = (
    "clean", "inspect", "probe", "augment", "fine-tune", "export", "evaluate-probe",
    "evaluate-tuned", "evaluate-final", "compare-probe", "compare-tuned",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(digits, tmp_path_factory):
    """Photos of three digits and a small network's weights."""
    folder = tmp_path_factory.mktemp("pipeline")
    for split in ("train", "val", "test"):
        for digit in "017":
            shutil.copytree(digits / split / digit, folder / "photos" / split / digit)
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False, num_classes=10)
    save_file(network.state_dict(), folder / "tiny.safetensors")
    return folder


@pytest.fixture(scope="module")
def recipe(place):
    return Recipe.model_validate(
        {
            "name": "digits",
            "data": {"path": place / "photos"},
            "model": {
                "name": "timm:test_efficientnet",
                "weights": place / "tiny.safetensors",
                "image_size": 32,
            },
            "augment": {"horizontal_flip": False, "crop_area": 0.8, "operations_per_image": 0},
            "fine_tune": {"epochs": 4, "batch_size": 16},
            "compress": None,
            "evaluate": {"bootstrap": 100, "latency": False},
            "registry": None,
        }
    )


def changed(recipe, **sections):
    """The recipe with some settings changed: section to its new fields, or None."""
    record = recipe.model_dump()
    for name, fields in sections.items():
        if isinstance(fields, dict):
            record[name] = {**(record[name] or {}), **fields}
        else:
            record[name] = fields
    return Recipe.model_validate(record)


@pytest.fixture(scope="module")
def first(recipe, place, context):
    """The whole job, once."""
    return run(recipe, place / "runs", context=context)


@pytest.fixture
def out(first, tmp_path):
    """A copy of the finished run's folder."""
    shutil.copytree(first.folder, tmp_path / "runs" / "digits")
    return tmp_path / "runs"


def folders(out, name="digits"):
    return sorted(p.name.rsplit("-", 1)[0] for p in (out / name).glob("[!.]*-????????"))


def record(out, step):
    (path,) = (out / "digits").glob(f"{step}-????????/stage.json")
    return json.loads(path.read_text())


def test_the_steps_hand_on_what_the_stages_take():
    chosen = {step.name: step for step in STEPS}
    kinds = {"listing": "dataset", "pretrained": "classifier"}
    for step in STEPS:
        stage = STAGES[step.stage]
        assert tuple(kinds[slot] for slot in step.reads) == stage.reads, step.name
        kinds |= {slot: stage.writes for slot in (step.writes, step.also) if slot}
    assert {step.stage for step in STEPS} == set(STAGES)
    # A step that is there twice, for two kinds of recipes, writes the same slots.
    assert all(chosen[step.name].writes == step.writes for step in STEPS)


def test_a_run_leaves_a_model_a_report_and_every_step(first):
    assert first.ran == ALL
    assert folders(first.folder.parent) == sorted(ALL)
    assert list(first.evaluations) == ["probe", "fine-tuned", "final"]
    assert list(first.comparisons) == ["gain", "cost"]
    assert first.registered is None
    assert Classifier.load(first.model).digest == first.evaluations["final"].classifier_digest
    assert first.report.read_text().startswith("<!doctype html>")
    assert not list(first.folder.glob(".*.part"))


def test_a_model_that_is_not_compressed_still_is_exported(first):
    model = Classifier.load(first.model)
    assert model.graph is not None
    assert [step.stage for step in model.card.steps] == ["probe", "fine_tune", "export"]


def test_each_step_is_recorded_with_what_it_read(first):
    out = first.folder.parent
    tuned = record(out, "fine-tune")
    assert tuned["reads"] == {
        "classifier": record(out, "probe")["digest"],
        "dataset": record(out, "clean")["digest"],
        "policy": record(out, "augment")["digest"],
    }
    assert tuned["settings"]["epochs"] == 4
    assert tuned["machine"] == machine("cpu")
    assert record(out, "evaluate-final")["reads"]["classifier"] == record(out, "export")["digest"]


def test_the_machine_is_told_with_its_versions():
    told = machine("cpu")
    assert told["device"] == "cpu"
    assert told["torch"] == version("torch")
    assert {"python", "system", "cores", "acclimate", "onnxruntime"} <= set(told)


def test_what_is_done_is_not_done_again(recipe, out, context):
    recorder = Recorder()
    again = run(recipe, out, context=Context(device="cpu", cache=context.cache, progress=recorder))
    assert again.ran == ()
    assert recorder.lines == [f"{name}: already done" for name in ALL]
    assert list(again.evaluations) == ["probe", "fine-tuned", "final"]


def test_the_order_of_the_recipe_and_the_seed_of_the_context_change_nothing(
    recipe, out, context, tmp_path
):
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    again = run(
        Recipe.load(tmp_path / "r.yaml"), out, context=Context(99, "cpu", cache=context.cache)
    )
    assert again.ran == ()


@pytest.mark.parametrize(
    ("sections", "ran"),
    [
        ({"compare": {"margin": 3.0}}, ("compare-probe", "compare-tuned")),
        ({"export": {"check_images": 3}}, ("export",)),
        ({"evaluate": {"confidence": 0.9}}, ALL[6:]),
        # Flags say something of the images and change none: nothing is trained anew.
        ({"inspect": {"outlier": 0.9, "label_error": 0.5}}, ("inspect",)),
    ],
)
def test_a_change_redoes_what_depends_on_it_and_no_more(recipe, out, context, sections, ran):
    assert run(changed(recipe, **sections), out, context=context).ran == ran


def test_other_scores_of_labels_train_anew_where_they_weigh(recipe, out, context):
    weighing = {"label_weights": True, "epochs": 1}
    found = []
    for folds in (5, 5, 2):
        own = changed(recipe, fine_tune=weighing, inspect={"folds": folds})
        run(own, out, context=context, until="fine-tune")
        found.append(len(list(out.glob("digits/fine-tune-*"))))
    assert found == [2, 2, 3]  # one without weights was there


def test_a_file_that_was_only_touched_is_looked_at_again_and_no_more(
    recipe, place, context, tmp_path
):
    shutil.copytree(place / "photos", tmp_path / "photos")
    own = changed(recipe, data={"path": tmp_path / "photos"})
    run(own, tmp_path / "runs", context=context, until="probe")
    recorder = Recorder()
    os.utime(next((tmp_path / "photos").rglob("*.png")))
    watched = Context(device="cpu", cache=context.cache, progress=recorder)
    run(own, tmp_path / "runs", context=watched, until="probe")
    assert [line for line in recorder.lines if line.startswith("── ")] == ["── clean (1 of 3)"]


def test_another_picture_under_an_old_name_is_another_run(recipe, place, context, tmp_path):
    shutil.copytree(place / "photos", tmp_path / "photos")
    own = changed(recipe, data={"path": tmp_path / "photos"})
    run(own, tmp_path / "runs", context=context, until="clean")
    one, other = sorted((tmp_path / "photos" / "train" / "0").iterdir())[:2]
    one.write_bytes(other.read_bytes())
    run(own, tmp_path / "runs", context=context, until="clean")
    kept = [Dataset.load(p) for p in (tmp_path / "runs" / "digits").glob("clean-*/*.parquet")]
    assert sorted(int(d.keep.sum()) for d in kept) == [89, 90]


def test_a_step_whose_folder_was_deleted_is_done_again_alone(recipe, out, context):
    (gone,) = (out / "digits").glob("evaluate-tuned-????????")
    shutil.rmtree(gone)
    assert run(recipe, out, context=context).ran == ("evaluate-tuned",)


def test_force_does_every_step_again_and_keeps_the_folders(recipe, out, context):
    before = folders(out)
    assert run(recipe, out, context=context, until="probe", force=True) is None
    assert folders(out) == before
    (clean,) = (out / "digits").glob("clean-????????")
    (export,) = (out / "digits").glob("export-????????")
    assert clean.stat().st_ctime_ns > export.stat().st_ctime_ns


def test_until_stops_after_that_step(recipe, tmp_path, context):
    assert run(recipe, tmp_path, context=context, until="augment") is None
    assert folders(tmp_path) == ["augment", "clean", "inspect", "probe"]
    assert not (tmp_path / "digits" / "model").exists()


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(recipe, first, context, tmp_path):
    stopped = Context(device="cpu", cache=context.cache, progress=Recorder(at_line="epoch 2/4"))
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path, context=stopped)
    assert folders(tmp_path) == ["augment", "clean", "inspect", "probe"]
    assert len(list((tmp_path / "digits").glob(".fine-tune-*.part/scratch/checkpoint.pt"))) == 1
    recorder = Recorder()
    resumed = Context(device="cpu", cache=context.cache, progress=recorder)
    run(recipe, tmp_path, context=resumed, until="fine-tune")
    assert any(
        line.startswith("resuming in epoch 2 of 4 at batch 1 of ") for line in recorder.lines
    )
    assert not list((tmp_path / "digits").glob(".*.part"))
    assert (
        record(tmp_path, "fine-tune")["digest"]
        == record(first.folder.parent, "fine-tune")["digest"]
    )


def test_a_checkpoint_is_taken_up_under_the_very_same_settings_only(recipe, context, tmp_path):
    stopped = Context(device="cpu", cache=context.cache, progress=Recorder(at_line="epoch 2/4"))
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path, context=stopped)
    recorder = Recorder()
    other = changed(recipe, fine_tune={"weight_decay": 0.5})
    watched = Context(device="cpu", cache=context.cache, progress=recorder)
    run(other, tmp_path, context=watched, until="fine-tune")
    assert not any(line.startswith("going on") for line in recorder.lines)


def test_a_failure_keeps_what_was_done_before_it(recipe, context, tmp_path):
    bad = changed(recipe, fine_tune={"batch_size": 5000})
    with pytest.raises(RecipeError, match="batch_size 5000 is larger than the training split"):
        run(bad, tmp_path, context=context)
    assert folders(tmp_path) == ["clean"], "all plans are made before the first long step"
    run(recipe, tmp_path, context=context, until="augment")
    assert folders(tmp_path) == ["augment", "clean", "inspect", "probe"]


def test_sections_that_are_off_leave_their_slot_as_it_was(recipe, out, context):
    plain = run(changed(recipe, fine_tune=None), out, context=context)
    assert plain.ran == ("export", "evaluate-final", "compare-probe")
    assert list(plain.evaluations) == ["probe", "final"]
    assert list(plain.comparisons) == ["gain"]
    steps = Classifier.load(plain.model).card.steps
    assert [step.stage for step in steps] == ["probe", "export"]
    assert "<td>fine-tuned</td>" not in plain.report.read_text()


def test_without_images_that_judge_the_run_ends_before_the_training(
    recipe, place, context, tmp_path
):
    own = changed(recipe, data={"path": place / "photos" / "train"}, clean={"test": 0.0})
    with pytest.raises(DataError) as caught:
        run(own, tmp_path, context=context)
    assert str(caught.value) == (
        f"{place}/photos/train: there are no images in the test split to evaluate on. "
        "Add some, or set clean.test above 0, or evaluate.split to val."
    )
    assert folders(tmp_path) == ["clean"]
    on_val = changed(own, evaluate={"split": "val"})
    assert run(on_val, tmp_path, context=context, until="augment") is None


def test_a_recipe_without_data_is_refused(context, tmp_path):
    with pytest.raises(RecipeError) as caught:
        run(Recipe(), tmp_path, context=context)
    assert str(caught.value) == "data.path: there is no data. Give a folder with --data photos/."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("until", "told"),
    [
        ("finetune", "--until: no step 'finetune'. Did you mean 'fine-tune'?"),
        ("distill", "--until: no step 'distill'. Known: augment, clean, compare-probe, "
         "compare-tuned, evaluate-final, evaluate-probe, evaluate-tuned, export, fine-tune, "
         "inspect, probe."),
    ],
)  # fmt: skip
def test_until_names_a_step_of_this_run(recipe, context, tmp_path, until, told):
    with pytest.raises(RecipeError) as caught:
        run(recipe, tmp_path, context=context, until=until)
    assert str(caught.value) == told


def test_a_folder_in_use_is_left_alone(recipe, out, context):
    before = (out / "digits" / "recipe.yaml").read_bytes()
    with FileLock(out / "digits" / ".lock"), pytest.raises(OutputError) as caught:
        run(changed(recipe, seed=3), out, context=context)
    assert str(caught.value) == (
        f"{out}/digits: another run is using this folder. Wait for it, or choose another --name."
    )
    assert (out / "digits" / "recipe.yaml").read_bytes() == before


@pytest.mark.parametrize("lost", [".lock", "recipe.yaml"])
def test_a_run_is_known_by_its_lock_or_by_its_recipe(recipe, out, context, lost):
    (out / "digits" / lost).unlink()
    assert run(recipe, out, context=context).ran == ()


def test_a_recipe_of_the_users_own_does_not_make_a_folder_ours(recipe, context, tmp_path):
    place = tmp_path / "digits"
    place.mkdir()
    (place / "recipe.yaml").write_text("name: digits\n")
    with pytest.raises(OutputError, match="already exists and was not written by acclimate"):
        run(recipe, tmp_path, context=context)
    assert [path.name for path in place.iterdir()] == ["recipe.yaml"]


def test_under_torchrun_the_whole_job_is_refused(recipe, context, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError) as caught:
        run(recipe, tmp_path, context=context)
    assert str(caught.value) == (
        "acclimate run works in one process. "
        "Under torchrun, use `acclimate fine-tune` or `acclimate distill`."
    )


def larger(recipe, digits, model, folder, **changes):
    """The recipe for two more digits, from a model that knows three."""
    for split in ("train", "val", "test"):
        for digit in "89":
            shutil.copytree(digits / split / digit, folder / "more" / split / digit)
    record = recipe.model_dump(mode="json")
    record["data"]["path"] = folder / "more"
    record["model"] = {"name": str(model)}
    record["fine_tune"]["keep_classes"] = True
    return Recipe.model_validate({**record, **changes})


def test_a_run_adds_classes_to_a_model_and_keeps_the_old_ones(
    first, recipe, digits, context, tmp_path
):
    more = larger(recipe, digits, first.model, tmp_path)
    result = run(more, tmp_path / "runs", context=context)
    model = Classifier.load(result.model)
    assert model.classes == ("0", "1", "7", "8", "9")
    figures = next(s for s in reversed(model.card.steps) if s.stage == "fine_tune").figures
    assert "old_accuracy_after" in figures
    assert result.evaluations["final"].classes == model.classes
    assert "Old classes: accuracy" in result.report.read_text()


def test_a_run_whose_later_stages_would_unlearn_old_classes_is_refused_before_training(
    first, recipe, digits, context, tmp_path
):
    more = larger(recipe, digits, first.model, tmp_path, distill={}, prune={})
    recorder = Recorder()
    with pytest.raises(RecipeError) as caught:
        run(more, tmp_path / "runs", context=replace(context, progress=recorder))
    assert str(caught.value) == (
        "distill: data has too few training images of 3 classes that fine_tune.keep_classes keeps "
        "('0' is one), and distill would unlearn them. Add images of them, or give --set "
        "distill=null --set prune=null."
    )
    assert not any(line.startswith("── probe") for line in recorder.lines)


def test_a_search_that_trains_would_unlearn_old_classes_too(
    first, recipe, digits, context, tmp_path
):
    more = larger(recipe, digits, first.model, tmp_path, compress={})
    with pytest.raises(RecipeError, match=r"compress would unlearn them\. .*allow=quantize"):
        run(more, tmp_path / "runs", context=context)


def test_a_network_is_not_distilled_into_itself(recipe, place, context, tmp_path, monkeypatch):
    from acclimate.distillation import distill

    monkeypatch.setattr(distill, "_named_student", lambda name: tiny_network_of(recipe))
    recorder = Recorder()
    both = changed(recipe, distill={}, fine_tune={"epochs": 1})
    run(both, tmp_path, context=replace(context, progress=recorder), until="distill")
    assert "distill: left out, because teacher and student are the same network" in recorder.lines
    assert "distill" not in folders(tmp_path)


def tiny_network_of(recipe):
    return pretrained(recipe.model)


def test_a_run_ends_with_what_it_has_shown(first):
    images = first.comparisons["gain"].differences["home"].images
    assert any(word in first.verdict[0] for word in ("better", "worse", "as good"))
    assert f"{images} images" in first.verdict[0]
    assert first.verdict[0] in first.report.read_text()
