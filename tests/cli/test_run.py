"""`acclimate run`: the whole job, what it prints and leaves, and what running again does."""

import json
import re
import shutil

import numpy as np
import onnxruntime
import pytest
import yaml
from PIL import Image

from acclimate.pipeline.steps import STEPS
from acclimate.recipe import Recipe

NOT_RUN = ("export", "distill", "compress")
"""Quantize exports what it starts from, the student would be the teacher's network, and the recipe
does not search for a compressed model."""
RAN = list(dict.fromkeys(s.name for s in STEPS if s.name not in NOT_RUN))


@pytest.fixture
def again(workshop, shell, tmp_path):
    """Runs once more, into a copy of the finished run's folder."""
    shutil.copytree(workshop.made, tmp_path / "runs" / "photos")

    def again(*args):
        given = ("--recipe", "my.yaml", "--out", tmp_path / "runs", "--set", "registry=null")
        return shell("run", *given, *args, cwd=workshop.folder)

    return again


def steps(done):
    """Which steps were kept and which were run, as the lines on standard error tell."""
    kept = [line.split(":")[0] for line in done.lines if line.endswith(": already done")]
    return kept, [line.split()[1] for line in done.lines if line.startswith("── ")]


def tree(folder):
    """Every file with its content and the time it was written."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_ends_with_a_table_and_says_where_model_and_report_are(workshop):
    assert workshop.run.code == 0, workshop.run.err
    out = workshop.run.out.splitlines()
    assert out[0].strip() == "photos: baseline and result"
    header, *rows = [
        [cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")]
        for line in out
        if line[0] in "┃│"
    ]
    assert header == [
        "model", "accuracy", "accuracy (shifted)", "file size", "latency", "images/s", "runtime",
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["probe", "fine-tuned", "final"]
    assert [row[-1] for row in rows] == ["PyTorch float32"] * 2 + ["ONNX Runtime int8"]
    place = out.index("model   runs/photos/model")
    assert out[place + 1] == "report  runs/photos/report.html"
    assert "the probe" in out[place + 2]


def test_a_run_tells_its_steps_on_standard_error_and_warns_of_nothing(workshop):
    assert steps(workshop.run) == ([], RAN)
    for word in ("Warning", "Traceback", "error:"):
        assert word not in workshop.run.err
    assert any(line.startswith("registered and signed: photos/1") for line in workshop.run.lines)


def test_a_bad_file_never_stops_a_run_and_is_named_with_its_reason(workshop):
    assert any(
        line.startswith("clean: 114 images of 3 classes kept") for line in workshop.run.lines
    )
    assert "    train/nought/cut off.jpg: image is truncated or broken" in workshop.run.lines
    assert "    train/nought/empty.jpg: file is empty (0 bytes)" in workshop.run.lines
    (twice,) = [line for line in workshop.run.lines if "twice.png" in line]
    assert twice.startswith("    train/nought/twice.png: exact duplicate of train/nought/")


def test_a_junk_folder_is_named_and_never_a_class(workshop):
    line = "read: train/.ipynb_checkpoints is not a class: left out."
    assert line in workshop.run.lines
    record = json.loads((workshop.made / "model" / "model.json").read_text())
    assert record["classes"] == ["Sieben é", "nought", "one & only"]


def test_nothing_of_the_users_is_moved_changed_or_deleted(workshop):
    inside = [path for path in workshop.photos.rglob("*") if path.is_file()]
    assert len(inside) == 93
    assert (workshop.photos / "train" / "nought" / "empty.jpg").read_bytes() == b""


def test_the_recipe_is_written_out_in_full(workshop):
    written = yaml.safe_load((workshop.made / "recipe.yaml").read_text())
    assert list(written) == list(Recipe.model_fields)
    for name, section in Recipe.load(workshop.folder / "my.yaml"):
        if hasattr(section, "model_fields_set"):
            assert list(written[name]) == list(type(section).model_fields), name
    assert written["compress"] is None  # the recipe names the stages in its place
    assert Recipe.load(workshop.made / "recipe.yaml") == Recipe.load(
        workshop.folder / "my.yaml"
    ).model_copy(update={"registry": Recipe.load(workshop.made / "recipe.yaml").registry})


def test_the_written_recipe_repeats_the_run_from_any_other_folder(workshop, acclimate, tmp_path):
    recipe = tmp_path / "elsewhere" / "kept.yaml"
    recipe.parent.mkdir()
    shutil.copy(workshop.made / "recipe.yaml", recipe)
    shutil.copytree(workshop.made, tmp_path / "runs" / "photos")
    done = acclimate("run", "--recipe", recipe, "--set", "registry=null", "--json")
    assert done.json["ran"] == []


def test_the_model_folder_is_read_by_plain_onnx_runtime(workshop):
    session = onnxruntime.InferenceSession(
        workshop.made / "model" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    told = session.get_modelmeta().custom_metadata_map
    contract, classes = (json.loads(told[f"acclimate.{key}"]) for key in ("contract", "classes"))
    assert classes == ["Sieben é", "nought", "one & only"]
    assert contract["image_size"] == 32
    hits = []
    for path in sorted(workshop.photos.glob("test/*/*.png")):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
        inputs = (pixels / 255 - contract["mean"]) / contract["std"]
        (logits,) = session.run(None, {"images": inputs.transpose(2, 0, 1)[None].astype("float32")})
        hits.append(classes[logits.argmax()] == path.parent.name)
    assert np.mean(hits) > 0.6


def test_each_step_leaves_a_folder_that_says_what_made_it(workshop):
    assert len(RAN) == 12
    for name in RAN:
        record = json.loads((workshop.step(name) / "stage.json").read_text())
        assert record["key"].startswith(workshop.step(name).name[-8:])
        assert record["machine"]["device"] == "cpu"
        assert {"version", "settings", "reads", "digest", "seed", "seconds"} <= set(record)
    left = {path.name for path in workshop.made.iterdir()} - {".lock"}
    assert left == {workshop.step(name).name for name in RAN} | {
        "dataset.parquet", "model", "recipe.yaml", "report.html",
    }  # fmt: skip


def test_a_search_takes_the_place_of_pruning_and_quantizing(again, tmp_path):
    few = ("calibration_images=16", "ranking_images=32", "allow=quantize", "target=size")
    given = [f"compress.{text}" for text in few]
    given += [f"{name}=null" for name in ("distill", "prune", "quantize")]
    done = again(*(word for text in given for word in ("--set", text)))
    assert done.code == 0, done.err
    kept, ran = steps(done)
    assert kept == ["clean", "inspect", "probe", "augment", "fine-tune", "evaluate-probe",
                    "evaluate-tuned"]  # fmt: skip
    assert ran == ["compress", "evaluate-final", "compare-probe", "compare-tuned"]
    (step,) = (tmp_path / "runs" / "photos").glob("compress-*")
    assert (step / "candidates" / "candidates.csv").is_file()
    assert (step / "candidates" / "pareto.svg").is_file()
    page = (tmp_path / "runs" / "photos" / "report.html").read_text()
    assert "<h2>Compression</h2>" in page
    assert "int8-" in page
    assert "Compression: " in done.out


def test_running_again_does_nothing_and_says_so_and_ends_with_the_same_table(
    workshop, again, tmp_path
):
    before = {k: v for k, v in tree(tmp_path / "runs").items() if "-" in k.parts[1]}
    done = again()
    assert done.code == 0
    assert steps(done) == (RAN, [])
    after = {k: v for k, v in tree(tmp_path / "runs").items() if "-" in k.parts[1]}
    assert after == before
    both = (run.out.splitlines() for run in (done, workshop.run))
    first, second = ([line for line in out if "runs/photos" not in line] for out in both)
    assert first == second


def test_the_result_as_json_is_all_that_standard_output_holds(workshop, again):
    done = again("--json", "--quiet")
    assert done.err == ""
    assert list(done.json) == [
        "model", "report", "registered", "verdict", "ran", "evaluations", "comparisons",
    ]  # fmt: skip
    assert list(done.json["evaluations"]) == ["probe", "fine-tuned", "final"]
    assert list(done.json["evaluations"]["final"]["metrics"]) == ["home", "shifted"]
    assert done.json["comparisons"]["gain"]["before"] == "probe"
    shown = done.json["evaluations"]["final"]["metrics"]["home"]["accuracy"]["value"]
    assert f"│ final      │ {shown:.3f} [" in workshop.run.out


def test_changing_one_setting_redoes_what_depends_on_it_and_going_back_is_free(workshop, again):
    late = ["quantize", "evaluate-final", "compare-probe", "compare-tuned"]
    changed = again("--set", "quantize.keep_head_float=true", "--json")
    assert changed.json["ran"] == late
    back = again("--json")
    assert back.json["ran"] == []
    assert back.json["evaluations"]["final"] != changed.json["evaluations"]["final"]


def test_a_challenger_that_is_not_better_is_answered_with_exit_code_3(again, tmp_path):
    (tmp_path / "runs" / "photos" / "report.html").unlink()
    # So sure that 24 images can never settle it.
    sure = ("--set", "compare.confidence=0.999999", "--set", "compare.margin=2")
    require = ("--set", "compare.require=better", *sure)
    done = again(*require, "--json", "--quiet")
    assert done.code == 3
    assert done.json["ran"] == ["compare-probe", "compare-tuned"]
    assert done.json["comparisons"]["cost"]["margin"] == 2
    refused = json.loads(done.err)
    assert refused["code"] == "not-better"
    assert refused["message"].startswith("too few images to tell final from probe: ")
    assert done.json["comparisons"]["gain"]["verdict"] == "not settled"
    assert (tmp_path / "runs" / "photos" / "report.html").is_file()


def test_until_stops_after_a_step_and_leaves_no_model(workshop, shell, tmp_path):
    given = ("--recipe", "my.yaml", "--out", tmp_path, "--name", "part", "--until", "probe")
    done = shell("run", *given, cwd=workshop.folder)
    assert done.code == 0
    assert steps(done) == ([], ["clean", "inspect", "probe"])
    assert done.out == f"run     {tmp_path}/part (stopped after probe)\n"
    assert shell("run", *given, "--json", cwd=workshop.folder).json == {
        "run": f"{tmp_path}/part",
        "until": "probe",
    }
    names = sorted(path.name.split("-")[0] for path in (tmp_path / "part").glob("[!.]*"))
    assert names == ["clean", "inspect", "probe", "recipe.yaml"]


def test_force_redoes_every_step(again, tmp_path):
    before = tree(tmp_path / "runs")
    done = again("--force", "--until", "augment")
    assert steps(done) == ([], ["clean", "inspect", "probe", "augment"])
    after = tree(tmp_path / "runs")
    redone = [k for k in after if after[k][0] != before[k][0]]
    names = sorted({k.parts[1].split("-")[0] for k in redone})
    assert names == ["augment", "clean", "inspect", "probe", "recipe.yaml"]
    assert after.keys() == before.keys()


def test_another_seed_is_another_run(again):
    done = again("--seed", "1", "--until", "clean")
    assert steps(done) == ([], ["clean"])


def test_name_and_out_say_where_the_run_goes(workshop, shell, tmp_path):
    given = ("--data", "photos", "--name", "leaf", "--out", tmp_path / "here", "--until", "clean")
    assert shell("run", *given, cwd=workshop.folder).code == 0
    written = Recipe.load(tmp_path / "here" / "leaf" / "recipe.yaml")
    assert written.name == "leaf"
    assert written.data.path == workshop.photos


def test_a_dry_run_prints_the_recipe_and_does_nothing(workshop, shell, tmp_path):
    given = ("--data", "photos", "--set", "fine_tune.epochs=7", "--out", tmp_path / "no")
    done = shell("run", *given, "--dry-run", cwd=workshop.folder)
    assert done.code == 0
    assert yaml.safe_load(done.out)["fine_tune"]["epochs"] == 7
    assert yaml.safe_load(done.out)["data"]["path"] == str(workshop.photos)
    assert list(tmp_path.iterdir()) == []
    split, steps, time = done.lines[-3:]
    assert re.fullmatch(r"split: \d+ train, \d+ val and \d+ test images, if all can be used", split)
    assert steps.startswith("steps: clean, inspect, probe, augment, fine-tune, compress,")
    assert time.startswith("time on this machine: about ")


def test_a_dry_run_checks_everything(acclimate):
    done = acclimate("run", "--data", "nowhere", "--dry-run")
    assert done.code == 2
    assert "no such file or folder. Check the spelling." in done.err


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_a_device_that_is_not_here_is_told_before_any_work(workshop, shell, tmp_path, dry):
    given = ("--data", "photos", "--device", "cuda:7", "--out", tmp_path / "runs", *dry)
    done = shell("run", *given, cwd=workshop.folder)
    assert done.code == 2
    assert "device 'cuda:7' is not available." in done.err
    assert list(tmp_path.rglob("clean-*")) == []


def test_photos_without_splits_are_split_though_a_domain_has_its_own_images(
    workshop, shell, tmp_path
):
    shutil.copytree(workshop.photos / "train", tmp_path / "photos")
    given = ("--data", tmp_path / "photos", "--out", tmp_path / "runs", "--until", "clean")
    domain = f"data.test_domains={{shifted: {workshop.folder / 'shifted'}}}"
    done = shell("run", *given, "--set", domain, cwd=workshop.folder)
    assert done.err.endswith(": exact duplicate of nought/0055.png\n"), done.err
    assert done.code == 0


def test_a_png_that_is_cut_off_is_listed_like_any_other(acclimate, workshop, tmp_path):
    shutil.copytree(workshop.photos, tmp_path / "photos")
    some = next((tmp_path / "photos" / "val" / "nought").iterdir())
    (some.parent / "half.png").write_bytes(some.read_bytes()[:200])
    done = acclimate("run", "--data", "photos", "--until", "clean")
    broken = "val/nought/half.png: image is truncated or broken"
    assert broken in [line.strip() for line in done.lines]
    assert done.code == 0


def test_a_run_that_is_refused_leaves_the_recipe_of_the_one_before(again, tmp_path):
    recipe = tmp_path / "runs" / "photos" / "recipe.yaml"
    before = recipe.read_text()
    assert again("--data", "nowhere").code == 2
    assert recipe.read_text() == before


def test_a_run_never_writes_into_a_folder_of_the_users(workshop, acclimate, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(workshop.photos / "val", photos)
    (photos / "one & only").rename(photos / "model")
    (photos / "recipe.yaml").write_text("soup: of the day\n")
    before = tree(photos)
    done = acclimate("run", "--data", photos, "--out", ".", "--name", "photos", "--until", "clean")
    assert done.code == 2
    assert tree(photos) == before
