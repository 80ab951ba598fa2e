"""Every stage alone: what it takes, prints and writes, and what it never writes over."""

import json
import re
import shutil

import pytest

import acclimate as package
from acclimate.augmentation.policy import Policy
from acclimate.data.dataset import Dataset
from acclimate.evaluation.comparison import Comparison
from acclimate.evaluation.evaluate import Evaluation
from acclimate.models.classifier import Classifier
from acclimate.pipeline.stages import STAGES

TRAINING = ("--set", "epochs=1", "--set", "batch_size=16")
CLASSES = ("Sieben é", "nought", "one & only")


@pytest.fixture
def dataset(workshop):
    return workshop.step("clean") / "dataset.parquet"


def model(workshop, step):
    return workshop.step(step) / "model"


def steps(classifier):
    return [step.stage for step in classifier.card.steps]


def test_clean_writes_a_table_and_says_where(acclimate, workshop, tmp_path):
    done = acclimate("clean", workshop.photos, "-o", "p.parquet")
    assert done.code == 0
    assert done.out == "dataset  p.parquet\n"
    assert any(line.startswith("clean: 90 images of 3 classes kept (") for line in done.lines)
    made = Dataset.load(tmp_path / "p.parquet")
    assert made.classes == CLASSES
    assert len(made) == 93


def test_augment_writes_the_policy_that_was_asked_for(acclimate, workshop, dataset, tmp_path):
    given = (model(workshop, "probe"), dataset, "-o", "p.json")
    done = acclimate("augment", *given, "--set", "policy=none", "--set", "horizontal_flip=false")
    assert done.out == "policy  p.json\n"
    assert Policy.load(tmp_path / "p.json").horizontal_flip is False


def test_probe_takes_a_name_with_local_weights(acclimate, workshop, dataset, tmp_path):
    weights = f"model.weights={workshop.folder / 'tiny.safetensors'}"
    given = ("timm:test_efficientnet", dataset, "-o", "p.model", "--set", weights)
    done = acclimate("probe", *given, "--set", "model.image_size=32")
    assert done.code == 0, done.err
    made = Classifier.load(tmp_path / "p.model")
    assert made.classes == CLASSES
    assert made.digest == Classifier.load(model(workshop, "probe")).digest


def test_fine_tune_reads_a_folder_of_photos_as_well(acclimate, workshop, tmp_path):
    done = acclimate(
        "fine-tune", model(workshop, "probe"), workshop.photos, "-o", "t.model", *TRAINING
    )
    assert done.code == 0, done.err
    assert done.out == "classifier  t.model\n"
    assert any(line.startswith("epoch 1/1: train loss ") for line in done.lines)
    assert steps(Classifier.load(tmp_path / "t.model")) == ["probe", "fine_tune"]
    assert [path.name for path in tmp_path.iterdir()] == ["t.model"]


def test_fine_tune_says_the_same_twice_and_another_seed_another_thing(acclimate, workshop, dataset):
    given = ("fine-tune", model(workshop, "probe"), dataset, *TRAINING, "--json", "--quiet")
    made = [acclimate(*given, "--seed", s, "-o", f"{n}.model") for n, s in enumerate((3, 3, 4))]
    assert [done.err for done in made] == [""] * 3
    first, second, other = (done.json for done in made)
    assert list(first) == ["out", "digest", "classes", "card"]
    assert first["digest"] == second["digest"]
    trained = [made["card"]["steps"][-1] for made in (first, second, other)]
    assert trained[0]["settings"]["epochs"] == 1
    losses = [step["curve"][1]["train_loss"] for step in trained]
    assert losses[0] == losses[1] != losses[2]


def test_distill_teaches_a_student(acclimate, workshop, dataset, tmp_path):
    teacher = model(workshop, "fine-tune")
    done = acclimate("distill", teacher, dataset, "-o", "s.model", *TRAINING)
    assert done.code == 0, done.err
    assert steps(Classifier.load(tmp_path / "s.model")) == ["probe", "fine_tune", "distill"]


def test_distill_takes_exported_teachers_too(acclimate, workshop, dataset, tmp_path):
    assert acclimate("export", model(workshop, "fine-tune"), dataset, "-o", "e.model").code == 0
    exported = tmp_path / "e.model/model.onnx"
    more = (
        "--set", f"teachers=[{model(workshop, 'fine-tune')}]", "--set", "method=dist",
        "--set", "augment.policy=basic",
    )  # fmt: skip
    done = acclimate("distill", exported, dataset, "-o", "s.model", *TRAINING, *more)
    assert done.code == 0, done.err
    step = Classifier.load(tmp_path / "s.model").card.steps[-1]
    assert [note.split(",")[0] for note in step.notes[:2]] == [
        "Teacher: model", f"Teacher: {Classifier.load(model(workshop, 'fine-tune')).name}",
    ]  # fmt: skip


def test_prune_says_why_it_keeps_or_refuses(acclimate, workshop, dataset, tmp_path):
    allowed = ("--set", "max_accuracy_drop=100")
    done = acclimate(
        "prune", model(workshop, "fine-tune"), dataset, "-o", "s.model", *TRAINING, *allowed
    )
    assert done.code == 0, done.err
    assert " Kept." in done.lines[-1]
    before = Classifier.load(model(workshop, "fine-tune"))
    assert Classifier.load(tmp_path / "s.model").parameters < 0.8 * before.parameters


def test_quantize_gives_a_model_that_evaluate_reads(acclimate, workshop, dataset, tmp_path):
    allowed = ("--set", "max_accuracy_drop=100", "--set", "calibration_images=16")
    done = acclimate("quantize", model(workshop, "fine-tune"), dataset, "-o", "q.model", *allowed)
    assert done.code == 0, done.err
    small = Classifier.load(tmp_path / "q.model")
    assert (small.precision, small.network) == ("int8", None)
    found = acclimate("evaluate", "q.model", dataset, "--set", "latency=false", "--json").json
    assert (found["runtime"], found["precision"]) == ("onnx", "int8")


def test_export_writes_one_onnx_file_and_its_check(acclimate, workshop, dataset, tmp_path):
    done = acclimate("export", model(workshop, "fine-tune"), dataset, "-o", "e.model")
    assert done.code == 0, done.err
    assert "export: model.onnx agrees with PyTorch on 100.0% of 12 images" in done.lines[-2]
    assert "export: preprocess.py with plain ONNX Runtime gives the prob" in done.lines[-1]
    names = sorted(path.name for path in (tmp_path / "e.model").iterdir())
    files = ["curve.csv", "model.json", "model.onnx", "model.safetensors", "preprocess.py"]
    files += ["statistics.safetensors", "used_images.safetensors"]
    assert names == files
    figures = Classifier.load(tmp_path / "e.model").card.steps[-1].figures
    assert figures["same_predictions"] == 1
    assert 0 <= figures["max_difference"] < 1e-3


def test_evaluate_prints_a_table_and_needs_no_place_to_write(acclimate, workshop, dataset):
    given = (model(workshop, "probe"), dataset, "--set", "latency=false")
    done = acclimate("evaluate", *given, "--set", "bootstrap=100")
    assert done.code == 0, done.err
    assert done.out.startswith("test images")
    for word in ("accuracy (shifted)", "by class", "Sieben é", "recall", "0.4 MB"):
        assert word in done.out


def test_evaluate_from_the_shell_is_evaluate_from_python(acclimate, workshop, dataset, tmp_path):
    settings = {"latency": "false", "bootstrap": 100}
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    place = model(workshop, "probe")
    shown = acclimate("evaluate", place, dataset, *flags, "-o", "e", "--json").json
    found = package.evaluate(place, dataset, latency=False, bootstrap=100)
    assert shown["digest"] == found.digest
    assert shown["metrics"]["home"]["macro_f1"]["low"] == found.metrics["home"]["macro_f1"].low
    assert Evaluation.load(tmp_path / "e").digest == found.digest


def test_evaluate_on_a_folder_without_splits_judges_on_all_of_it(acclimate, workshop):
    given = (model(workshop, "probe"), workshop.photos / "val", "--set", "latency=false")
    refused = acclimate("evaluate", *given)
    assert refused.code == 2
    assert "the model was made with these images: of 12 images, 12 chose the epochs." in refused.err
    done = acclimate("evaluate", *given, "--include-training")
    assert "they are included, so the figures are too high." in done.out
    assert "evaluate: test_efficientnet on 12 test images: accuracy" in done.err


def test_compare_prints_one_sentence_and_a_table(acclimate, workshop, tmp_path):
    places = [workshop.step(f"evaluate-{n}") / "evaluation" for n in ("probe", "final")]
    done = acclimate("compare", *places, "-o", "c.json", "--set", "margin=5")
    assert done.code == 0
    first = done.out.splitlines()[0]
    number = r"[+-][0-9]+\.[0-9]{2}"
    assert re.fullmatch(
        r"(final is (better than|as good as|worse than) probe|"
        rf"too few images to tell final from probe): {number} points "
        rf"\[{number}, {number}\] on 24 images, McNemar p = [0-9.]+",
        first,
    )
    assert "margin: 5 points" in done.out
    assert "│ shifted " in done.out
    assert Comparison.load(tmp_path / "c.json").margin == 5


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_compare_answers_no_with_exit_code_3_once_all_is_written(
    acclimate, workshop, tmp_path, flag
):
    places = [workshop.step(f"evaluate-{n}") / "evaluation" for n in ("tuned", "probe")]
    # So sure that 24 images can never settle it.
    require = ("--set", "require=better", "--set", "confidence=0.999999")
    done = acclimate("compare", *places, "-o", "c.json", *require, *flag)
    assert done.code == 3
    found = Comparison.load(tmp_path / "c.json")
    assert (found.before, found.after) == ("fine-tuned", "probe")
    if flag:
        assert done.json["verdict"] == found.verdict
        assert json.loads(done.lines[-1])["code"] == "not-better"
    else:
        assert found.verdict == "not settled"
        assert done.lines[-1].startswith("error: too few images to tell probe from fine-tuned: ")


def test_compare_with_itself_is_as_good_within_a_wide_margin(acclimate, workshop):
    place = workshop.step("evaluate-final") / "evaluation"
    given = ("compare", place, place, "--set", "margin=20", "--set")
    assert acclimate(*given, "require=as-good").code == 0
    assert acclimate(*given, "require=better").code == 3


def test_a_recipe_gives_a_stage_its_section_and_set_overrides_it(
    acclimate, workshop, dataset, tmp_path
):
    (tmp_path / "r.yaml").write_text("augment: {policy: basic, strength: 0.9, crop_area: 0.7}\n")
    given = ("--recipe", "r.yaml", "-o", "p.json", "--set", "crop_area=0.6")
    assert acclimate("augment", model(workshop, "probe"), dataset, *given).code == 0
    policy = Policy.load(tmp_path / "p.json")
    assert (policy.strength, policy.crop_area) == (0.9, 0.6)


def arguments(stage, workshop):
    """What a stage reads, from the run."""
    places = {
        "classifier": model(workshop, "probe"),
        "dataset": workshop.step("clean") / "dataset.parquet",
        "evaluation": workshop.step("evaluate-final") / "evaluation",
    }
    return [places[kind] for kind in stage.reads if kind in places]


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["plain", "force"])
@pytest.mark.parametrize("name", STAGES)
def test_no_stage_ever_takes_the_place_of_a_folder_of_photos(
    acclimate, workshop, tmp_path, name, force
):
    stage = STAGES[name]
    shutil.copytree(workshop.photos / "val", tmp_path / "photos")
    before = sorted(tmp_path.rglob("*"))
    done = acclimate(name, *arguments(stage, workshop), "-o", "photos", *force)
    assert done.err == (
        "error: photos: already exists and was not written by acclimate. "
        "Choose another place with --out.\n"
    )
    assert done.code == 2
    assert sorted(tmp_path.rglob("*")) == before


FOREIGN = {
    "classifier": ("web/model.json", '{"format": "layers-model", "weightsManifest": []}'),
    "evaluation": ("web/evaluation.json", '{"score": 3}'),
    "policy": ("package.json", '{"name": "leaf"}'),
    "comparison": ("package.json", '{"name": "leaf"}'),
    "dataset": ("list.parquet", "no table"),
}


@pytest.mark.parametrize("name", ["clean", "augment", "fine-tune", "evaluate", "compare"])
def test_force_does_not_replace_what_only_looks_like_ours(acclimate, workshop, tmp_path, name):
    stage = STAGES[name]
    place, content = FOREIGN[stage.writes]
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(content)
    (tmp_path / place).with_name("weights.bin").write_text("years of work")
    out = place.split("/")[0]
    quick = TRAINING if name == "fine-tune" else ()
    done = acclimate(name, *arguments(stage, workshop), "-o", out, "--force", *quick)
    assert done.code == 2
    assert "already exists and was not written by acclimate" in done.err
    assert (tmp_path / place).read_text() == content
    assert (tmp_path / place).with_name("weights.bin").is_file()


@pytest.mark.parametrize("name", ["clean", "augment", "evaluate", "compare"])
def test_our_own_result_is_replaced_by_force_only(acclimate, workshop, tmp_path, name):
    stage = STAGES[name]
    out = {"dataset": "o.parquet", "policy": "o.json", "comparison": "o"}.get(stage.writes, "o")
    quick = ("--set", "latency=false") if name == "evaluate" else ()
    reads = arguments(stage, workshop) if name != "clean" else [workshop.photos / "val"]
    given = (name, *reads, "-o", out, *quick)
    assert acclimate(*given).code == 0
    written = (tmp_path / out).stat().st_ino
    again = acclimate(*given)
    assert again.err == (
        f"error: {out}: already exists. "
        "Choose another place with --out, or replace it with --force.\n"
    )
    assert again.code == 2
    assert (tmp_path / out).stat().st_ino == written
    assert acclimate(*given, "--force").code == 0
    assert (tmp_path / out).stat().st_ino != written


def test_an_empty_folder_is_a_place_like_any_other(acclimate, workshop, dataset, tmp_path):
    (tmp_path / "new").mkdir()
    given = (model(workshop, "probe"), dataset, "-o", "new", "--set", "latency=false")
    assert acclimate("evaluate", *given).code == 0
    assert Evaluation.load(tmp_path / "new").split == "test"


def test_quiet_says_nothing_but_the_result(acclimate, workshop):
    done = acclimate("clean", workshop.photos / "val", "-o", "p.parquet", "--quiet")
    assert (done.out, done.err) == ("dataset  p.parquet\n", "")


def test_augment_tells_the_evidence_and_a_stage_takes_its_policy(
    acclimate, workshop, dataset, tmp_path
):
    given = (model(workshop, "probe"), dataset)
    done = acclimate("augment", *given, "-o", "p.json", "--set", "operations_per_image=0")
    assert done.code == 0, done.err
    policy = Policy.load(tmp_path / "p.json")
    told = {line.operation for line in policy.evidence}
    assert told == {"horizontal_flip", "vertical_flip", "crop", "jitter"}
    assert any(line.startswith("augment: ") for line in done.lines)
    done = acclimate("fine-tune", *given, "--policy", "p.json", "-o", "t.model", *TRAINING)
    assert done.code == 0, done.err
    used = Classifier.load(tmp_path / "t.model").card.steps[-1].settings["policy"]
    assert used == policy.as_record()
    set_by_hand = ("--set", "augment.mixup=0.2", "--set", "augment.crop_area=0.9")
    done = acclimate(
        "fine-tune", *given, "--policy", "p.json", "-o", "u.model", *TRAINING, *set_by_hand
    )
    assert done.code == 0, done.err
    used = Classifier.load(tmp_path / "u.model").card.steps[-1].settings["policy"]
    assert used == {**policy.as_record(), "mixup": 0.2, "crop_area": 0.9}


def test_a_file_that_is_no_policy_is_told(acclimate, workshop, dataset, tmp_path):
    (tmp_path / "p.json").write_text("{}")
    given = (model(workshop, "probe"), dataset, "--policy", "p.json", "-o", "t.model")
    done = acclimate("fine-tune", *given, *TRAINING)
    assert done.code == 2
    assert done.lines[-1] == "error: p.json: not a valid policy file."
