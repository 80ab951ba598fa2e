"""What a person is told when something is wrong: one sentence, an exit code, nothing lost."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acclimate import cache as caches
from acclimate.cli import main as command
from acclimate.errors import AcclimateError

CASES = {
    "no data": (
        ["run"],
        "data.path: there is no data. Give a folder with --data photos/.",
    ),
    "no such path": (
        ["run", "--data", "fotos"],
        "{here}/fotos: no such file or folder. Check the spelling.",
    ),
    "an empty folder": (
        ["run", "--data", "empty"],
        "{here}/empty: no images found here. Put them into one folder per class: "
        "photos/<class>/*.jpg.",
    ),
    "a file that is no list": (
        ["run", "--data", "notes.txt"],
        "{here}/notes.txt: cannot read .txt files as data. Give a folder of images, an archive of "
        "one (.zip, .tar, .tar.gz, .tgz, .tar.bz2, .tbz2, .tar.xz, .txz), or a .csv or .parquet "
        "list.",
    ),
    "one class only": (
        ["run", "--data", "one"],
        "{here}/one: data has only the class 'rose'; a classifier needs at least two classes. "
        "Put the images into one folder per class.",
    ),
    "a class with one image": (
        ["run", "--data", "single"],
        "{here}/single: 1 class has a single usable image: 'tulip'. Add images, or leave them out "
        "with --set data.leave_out_classes=[...].",
    ),
    "a class without a usable image": (
        ["clean", "broken", "-o", "out.parquet"],
        "broken: no usable image is left of 1 class: 'tulip' (tulip/1.jpg: file is not an image). "
        "Repair the images, or leave the class out with --set data.leave_out_classes=[...].",
    ),
    "nothing usable at all": (
        ["clean", "junk", "-o", "out.parquet"],
        "junk: none of the 2 files here is a usable image: a/1.jpg: file is not an image; "
        "b/1.jpg: file is empty (0 bytes).",
    ),
    "a data set under another file's name": (
        ["clean", "photos", "-o", "out.csv"],
        "out.csv: a data set is written as Parquet. Use a name that ends in .parquet.",
    ),
    "fixes under another file's name": (
        ["fixes", "photos", "-o", "fixes.parquet"],
        "fixes.parquet: a fix list is a CSV file. Choose a name that ends in .csv.",
    ),
    "an empty path": (
        ["clean", "", "-o", "out.parquet"],
        "DATA is empty. Name a file or folder.",
    ),
    "no such policy": (
        ["fine-tune", "model", "photos", "-o", "out.model", "--policy", "nosuch.json"],
        "nosuch.json: no such file. `acclimate augment` writes one.",
    ),
    "an empty list in --set": (
        ["inspect", "model", "photos", "-o", "out.parquet", "--set", "estimators=[]"],
        "--set estimators: inspect.estimators must not be empty. Got [].",
    ),
    "a list without paths": (
        ["clean", "nopath.csv", "-o", "out.parquet"],
        "nopath.csv: list has no column 'path'; it has 'name', 'label'. Name the columns path, "
        "label and split in the first line.",
    ),
    "a list with an empty label": (
        ["clean", "nolabel.csv", "-o", "out.parquet"],
        "nolabel.csv:3: label is empty. Give a label, or leave the column out to treat the images "
        "as unlabelled.",
    ),
    "a list with an unknown split": (
        ["clean", "splits.csv", "-o", "out.parquet"],
        "splits.csv:2: split 'tset' is unknown. Did you mean 'test'? Leave it empty to have the "
        "image assigned.",
    ),
    "a parquet that is none": (
        ["clean", "fake.parquet", "-o", "out.parquet"],
        "fake.parquet: list cannot be read (Parquet magic bytes not found in footer. Either the "
        "file is corrupted or this is not a parquet file).",
    ),
    "no such recipe": (
        ["run", "--recipe", "mine.yaml"],
        "mine.yaml: no such recipe.",
    ),
    "a recipe with a wrong key and a wrong type": (
        ["run", "--recipe", "wrong.yaml"],
        "wrong.yaml:4: model.image_size must be a valid integer, or 'auto'. Got 'large'.\n"
        "wrong.yaml:2: fine_tune.epoch is not a setting. Did you mean 'epochs'?",
    ),
    "a recipe that is no YAML": (
        ["run", "--recipe", "open.yaml"],
        "open.yaml:2: not valid YAML (expected ',' or '}}', but got '<stream end>').",
    ),
    "a wrong key in --set": (
        ["run", "--data", "one", "--set", "fine_tune.epcohs=3"],
        "--set fine_tune.epcohs: fine_tune.epcohs is not a setting. Did you mean 'epochs'?",
    ),
    "--set without a value": (
        ["run", "--data", "one", "--set", "epochs"],
        "--set: 'epochs' is not key=value. Example: --set fine_tune.epochs=5.",
    ),
    "a name that leads out of the folder": (
        ["run", "--data", "one", "--name", "../up"],
        "--set name: name '../up' cannot name a run. Use letters, digits, dots, dashes and "
        "underscores, 64 at most.",
    ),
    "an unknown step": (
        ["run", "--data", "one", "--until", "finetune"],
        "--until: no step 'finetune'. Did you mean 'fine-tune'?",
    ),
    "a misspelt model": (
        ["run", "--data", "photos", "--model", "efficientnet-lite9"],
        "no model or model folder 'efficientnet-lite9'. Did you mean 'efficientnet-lite2' or "
        "'efficientnet-lite1'?",
    ),
    "a folder that is no model": (
        ["evaluate", "photos", "photos"],
        "photos: not a model folder: it has no model.json. Give the folder that a "
        "stage wrote, or a name such as efficientnet-lite0.",
    ),
    "a model of other classes": (
        ["evaluate", "model", "photos"],
        "test_efficientnet: data has classes the model does not know: 'rose', 'tulip'. Known: "
        "Sieben é, nought, one & only. Fine-tune the model on this data first, or leave these "
        "classes out with --set data.leave_out_classes=[...].",
    ),
    "an ONNX file that is none": (
        ["predict", "fake.onnx", "photos"],
        "fake.onnx: not a valid ONNX file.",
    ),
    "no images to name": (
        ["predict", "model", "empty"],
        "empty: the folder has no images.",
    ),
    "nothing there to name": (
        ["predict", "model", "nowhere.jpg"],
        "nowhere.jpg: no such file or folder.",
    ),
    "no such device": (
        ["predict", "model", "photos", "--device", "cuda:7"],
        "--device: device 'cuda:7' is not available. Use auto, cpu or cuda; `acclimate doctor` "
        "lists the available devices.",
    ),
    "a folder that is no evaluation": (
        ["compare", "photos", "photos"],
        "photos: not an evaluation: the folder has no evaluation.json. "
        "Run `acclimate evaluate` first.",
    ),
    "an unknown section": (
        ["recipe", "finetune"],
        "no section 'finetune'. Did you mean 'fine_tune'?",
    ),
    "a section that is a single value": (
        ["recipe", "seed"],
        "no section 'seed'. Known: augment, clean, compare, compress, data, distill, evaluate, "
        "export, fine_tune, inspect, model, probe, ….",
    ),
    "an output below a file": (
        ["clean", "photos", "-o", "notes.txt/photos.parquet"],
        "notes.txt/photos.parquet: cannot write here (file exists). Choose "
        "another place with --out.",
    ),
    "a run below a file": (
        ["run", "--data", "photos", "--out", "notes.txt"],
        "notes.txt/model: cannot write here (not a directory). Choose another place with --out.",
    ),
    "a run in the place of a file": (
        ["run", "--data", "photos", "--out", ".", "--name", "notes.txt"],
        "notes.txt: already exists and was not written by acclimate. Choose another place with "
        "--out, or another --name.",
    ),
    "a store in the place of a file": (
        ["models", "list", "--store", "notes.txt"],
        "{here}/notes.txt: cannot write here (file exists). Choose another place with --out.",
    ),
    "predictions in the place of a folder": (
        ["predict", "model", "photos", "-o", "photos"],
        "photos: already exists and was not written by acclimate. Choose another place with --out.",
    ),
}


@pytest.fixture(scope="module")
def bad(workshop, tmp_path_factory):
    """A folder of things that are wrong, each under its own name."""
    here = tmp_path_factory.mktemp("bad")
    images = iter(sorted(workshop.photos.glob("train/*/[0-9]*.png")))
    for place, number in {
        "one/rose": 6, "single/rose": 6, "single/tulip": 1, "photos/rose": 6, "photos/tulip": 6,
        "broken/rose": 6,
    }.items():  # fmt: skip
        (here / place).mkdir(parents=True)
        for image in islice(images, number):
            shutil.copy(image, here / place)
    for place in ("empty", "broken/tulip", "junk/a", "junk/b"):
        (here / place).mkdir(parents=True)
    (here / "broken" / "tulip" / "1.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (here / "junk" / "a" / "1.jpg").write_text("a letter")
    (here / "junk" / "b" / "1.jpg").write_bytes(b"")
    (here / "notes.txt").write_text("milk, eggs")
    (here / "nopath.csv").write_text("name,label\na.png,rose\n")
    (here / "nolabel.csv").write_text("path,label\nphotos/a.png,rose\nphotos/b.png,\n")
    (here / "splits.csv").write_text("path,label,split\nphotos/a.png,rose,tset\n")
    (here / "fake.parquet").write_text("PAR1 of nothing")
    (here / "fake.onnx").write_bytes(b"\x08\x07 no graph")
    (here / "wrong.yaml").write_text("fine_tune:\n  epoch: 3\nmodel:\n  image_size: large\n")
    (here / "open.yaml").write_text("data: {path: photos\n")
    shutil.copytree(workshop.made / "model", here / "model")
    return here


def everything(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "runs"
    }


def test_the_table_is_long_enough():
    assert len(CASES) == 39


@pytest.mark.parametrize("case", CASES)
def test_bad_input_ends_in_one_clear_sentence_and_exit_code_2(shell, bad, case):
    args, text = CASES[case]
    before = everything(bad)
    done = shell(*args, cwd=bad)
    *_, last = re.split(r"(?m)^(?=error: )", done.err)
    assert last == f"error: {text.format(here=bad)}\n"
    assert done.out == ""
    assert done.code == 2
    assert everything(bad) == before


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("an empty folder", "data-error"),
        ("a recipe with a wrong key and a wrong type", "recipe-error"),
        ("a misspelt model", "model-file-error"),
        ("a run below a file", "output-error"),
        ("no such device", "model-file-error"),
    ],
)
def test_as_json_an_error_has_code_message_where_and_hint(shell, bad, case, code):
    args, text = CASES[case]
    done = shell(*args, "--json", cwd=bad)
    record = json.loads(done.lines[-1])
    assert list(record) == ["code", "message", "where", "hint"]
    assert record["code"] == code
    error = AcclimateError(record["message"], where=record["where"], hint=record["hint"])
    assert str(error) == text.format(here=bad)
    assert done.out == ""
    assert done.code == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            PermissionError(13, "Permission denied", "photos/rose"),
            "photos/rose: permission denied. Change the permissions, or choose another path.",
        ),
        (
            UnicodeEncodeError("utf-8", "caf\udce9", 3, 4, "surrogates not allowed"),
            r"'caf\\xe9' is not valid UTF-8. Rename the file or folder.",
        ),
    ],
)
def test_what_the_system_refuses_is_for_the_user_to_mend(monkeypatch, capsys, error, told):
    def refused(**_):
        raise error

    monkeypatch.setattr(command, "cli", refused)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {told}\n"


@pytest.mark.parametrize("place", ["cache", "temporary", "none"])
def test_a_crash_is_one_line_wherever_its_log_can_be_written(monkeypatch, capsys, tmp_path, place):
    def crash(**_):
        raise ZeroDivisionError("division by zero")

    def folder(name):
        (tmp_path / "file").touch()
        return str(tmp_path / "file" if place != name else tmp_path)

    monkeypatch.setattr(command, "cli", crash)
    monkeypatch.setenv("XDG_CACHE_HOME", folder("cache"))
    monkeypatch.setattr(caches.tempfile, "gettempdir", lambda: folder("temporary"))
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    (log, *_) = [*tmp_path.rglob("last-error.log"), None]
    way_out = "Run again" if log is None else f"The traceback is in {log}; or run again"
    assert told == (
        f"error: acclimate failed: ZeroDivisionError: division by zero. {way_out} with --debug.\n"
    )
    assert (log is None) == (place == "none")


def test_debug_shows_the_traceback_and_the_sentence(shell, bad):
    done = shell("clean", "empty", "-o", "out.parquet", "--debug", cwd=bad)
    assert "\nTraceback (most recent call last)" in done.err
    assert "no images found here" in done.lines[-1]
    assert done.code == 2


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["fine_tune", "a", "b"], "No such command 'fine_tune'"),
        (["run", "--dat", "photos"], "No such option '--dat'"),
        (["clean"], "Missing argument 'DATA'"),
        (["clean", "photos"], "Missing option '--out'"),
        (["predict", "model", "photos", "--top", "0"], "Invalid value for '--top'"),
    ],
)
def test_a_mistyped_command_is_answered_with_its_usage(cold, args, told):
    done = cold(*args)
    assert done.err.startswith("Usage: acclimate")
    assert told in done.err
    assert done.code == 2


def test_as_json_a_mistyped_command_is_a_record_too(cold):
    done = cold("run", "--dat", "photos", "--json")
    assert list(json.loads(done.err)) == ["code", "message", "where", "hint"]
    assert done.code == 2


def test_odd_images_are_read_and_bad_ones_are_listed(shell, workshop, tmp_path):
    good = tmp_path / "photos" / "good ones"
    bad = tmp_path / "photos" / "böse"
    good.mkdir(parents=True)
    bad.mkdir()
    # Another picture in each file: one in many formats would be near-duplicates.
    paths = sorted(workshop.photos.glob("train/*/*.png"))[::6]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    pictures[0].convert("CMYK").save(good / "cmyk.jpg")
    deep = np.asarray(pictures[1].convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(good / "sixteen bit.png")
    pictures[2].convert("P").save(good / "palette.gif")
    pictures[3].convert("L").save(good / "grey.png")
    pictures[4].convert("RGBA").save(good / "alpha.webp")
    turned = Image.Exif()
    turned[0x0112] = 6
    pictures[5].save(good / "turned.jpg", exif=turned)
    pictures[6].save(good / "moving.gif", save_all=True, append_images=pictures[:2])
    pictures[7].save(bad / "fine.png")
    pictures[8].save(bad / "also fine.png")
    pictures[0].save(bad / "half.jpg")
    (bad / "half.jpg").write_bytes((bad / "half.jpg").read_bytes()[:-200])
    (bad / "empty.png").write_bytes(b"")
    (bad / "text.jpg").write_text("not an image")
    (bad / "notes.txt").write_text("milk, eggs")
    Image.new("1", (10_000, 10_000)).save(bad / "bomb.png")
    (tmp_path / "secret.png").write_bytes((good / "grey.png").read_bytes())
    (bad / "link.png").symlink_to(tmp_path / "secret.png")
    (bad / "nowhere.png").symlink_to(tmp_path / "gone.png")
    done = shell("clean", "photos", "-o", "p.parquet", cwd=tmp_path)
    assert done.lines == [
        "clean: reading photos",
        "read: photos: 2 paths lead out of its folder: left out. If you trust this data, set "
        "data.allow_outside to true.",
        "clean: 1 image is an animation, of which the first picture is used",
        "clean: 8 of 9 images blurred: typical of this data, not flagged",
        "clean: 9 images of 2 classes kept (7 train, 1 val, 1 test), 7 left out",
        "  unreadable: 7",
        "    böse/bomb.png: image has 100 megapixels, over the limit of 80",
        "    böse/empty.png: file is empty (0 bytes)",
        "    böse/half.jpg: image is truncated or broken",
        "    böse/link.png: link leads out of the folder",
        "    böse/notes.txt: not an image file (.txt)",
    ]
    assert done.code == 0


def test_a_file_whose_name_is_not_utf8_stops_nothing(shell, workshop, tmp_path):
    shutil.copytree(workshop.photos / "val", tmp_path / "photos")
    some = next((tmp_path / "photos" / "nought").iterdir())
    os.rename(some, os.fsencode(some.parent) + b"/caf\xe9.png")
    done = shell("clean", "photos", "-o", "p.parquet", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "clean: 1" in done.err


FULL = {
    "clean": ["clean", "{photos}", "-o", "p.parquet"],
    "probe": ["probe", "{model}", "{dataset}", "-o", "p.model"],
    "fine-tune": ["fine-tune", "{model}", "{dataset}", "-o", "p.model", "--set", "epochs=1"],
    "evaluate": ["evaluate", "{model}", "{dataset}", "-o", "p", "--set", "latency=false"],
    "run": ["run", "--data", "{photos}", "--until", "clean"],
    "predict": ["predict", "{model}", "{photos}", "-o", "p.csv"],
    "store": ["models", "promote", "photos/1", "--store", "{store}"],
}


@pytest.mark.parametrize("case", FULL)
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    shell, workshop, tmp_path, tmp_path_factory, case
):
    there = {
        "photos": workshop.photos,
        "model": workshop.step("probe") / "model",
        "dataset": workshop.step("clean") / "dataset.parquet",
        "store": tmp_path_factory.mktemp("full") / "store",
    }
    if case == "store":
        shutil.copytree(workshop.folder / "acclimate-store", there["store"])
    # No file may grow beyond this: what a full disk does, without a disk to fill.
    done = shell(*(arg.format(**there) for arg in FULL[case]), cwd=tmp_path, file_size=3000)
    assert re.fullmatch(
        r"error: .+: cannot write here \(.+\)\. "
        r"(Free some space, or c|C)hoose another (place with --out|store)\.",
        done.lines[-1],
    ), done.err
    assert "Traceback" not in done.err
    assert done.code == 2
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {".lock"}


def test_a_disk_without_room_is_refused_before_the_work(shell, workshop, tmp_path):
    (tmp_path / "small").mkdir()
    command = (
        f"mount -t tmpfs -o size=4m none {tmp_path}/small && exec {shell.script} run "
        f"--data {workshop.photos} --out {tmp_path}/small"
    )
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", command],
        capture_output=True, text=True, check=False, env={**os.environ, **shell.env},
    )  # fmt: skip
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("no file system may be mounted here")
    assert done.stderr.splitlines(keepends=True)[-1] == (
        f"error: {tmp_path}/small/model: only 4 MB are free and a run needs 500. "
        "Free some space, or choose another place with --out.\n"
    )
    assert done.returncode == 2


def test_a_reader_that_leaves_early_is_no_failure(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(Path(sys.executable).with_name("acclimate")), "recipe"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_place_that_takes_no_output_is_told_without_a_traceback(shell, tmp_path):
    (tmp_path / "file").write_text("")
    with open("/dev/full", "w") as full:
        done = shell.cold(
            "recipe", cwd=tmp_path, stdout=full, env={"XDG_CACHE_HOME": f"{tmp_path}/file/cache"}
        )
    assert "Traceback" not in done.err
    assert "No space left on device" in done.err
    assert done.code in (1, 2)
