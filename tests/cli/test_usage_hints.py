"""A mistyped command, option or argument is answered with what to type."""

import json
import shlex

import click
import pytest

from acclimate.cli.main import cli
from acclimate.cli.usage_hints import COMMANDS, OPTIONS
from acclimate.recipe import SECTIONS
from acclimate.settings import OTHER_WORDS

TRAIN = (
    "Type `acclimate run --data photos/ --name leaf` or `acclimate fine-tune efficientnet-lite0 "
    "photos.parquet -o leaf.model`."
)
FINE_TUNE = "Type `acclimate fine-tune efficientnet-lite0 photos.parquet -o leaf.model`."
HINTS = {
    "train": TRAIN,
    "train photos --epochs 3": TRAIN,
    "trian": TRAIN,
    "fit": TRAIN,
    "finetune": FINE_TUNE,
    "Fine_Tune": FINE_TUNE,
    "infer m photos": "Type `acclimate predict leaf.model photo.jpg`.",
    "promote leaf/1": "Type `acclimate models promote leaf/1`.",
    "models ls": "Type `acclimate models list`.",
    "models roll-back": "Type `acclimate models rollback leaf`.",
    "help": "Type `acclimate --help`.",
    "zzzz": "`acclimate --help` lists the commands.",
    "photos": "Type `acclimate run --data photos`.",
    "my.yaml": "Type `acclimate run --recipe my.yaml`.",
    "--data photos": "Options follow the command, as in `acclimate run --data photos`.",
    "models --store s list": "Options follow the command, as in `acclimate models list --store s`.",
    "--zzzz": "`acclimate COMMAND --help` lists the options of a command.",
    "run --epoch 3": "Type `--epochs 3`.",
    "run --num-epochs=3": "Type `--epochs 3`.",
    "run --lr 1e-3": "Type `--set fine_tune.learning_rate=1e-3`.",
    "run --batch-size 8": "Type `--set fine_tune.batch_size=8`.",
    "run --imgsz 64": "Type `--set model.image_size=64`.",
    "run --val_split 0.1": "Type `--set clean.val=0.1`.",
    "run --model-name resnet-50": "Type `--model resnet-50`.",
    "run --data-dir 'my photos'": "Type `--data 'my photos'`.",
    "run --dat photos": "Type `--data photos`.",
    "run --overwrite": "Type `--force`.",
    "run --gpu 1": "Type `--device cuda:1`.",
    "run --cuda": "Type `--device cuda`.",
    "run --num-classes 5": "The classes are those of the data: one folder per class.",
    "run --zzzz": "`acclimate run --help` lists the options.",
    "run photos": "Type `acclimate run --data photos`.",
    "run --quiet photos": "Type `acclimate run --quiet --data photos`.",
    "run resnet-50 photos": "Type `acclimate run --model resnet-50 --data photos`.",
    "doctor photos": "Type `acclimate run --data photos`.",
    "fine-tune m d -o x --epochs 3": "Type `--set epochs=3`.",
    "fine-tune m d -o x --lr 3e-4": "Type `--set learning_rate=3e-4`.",
    "fine-tune m d -o x --learning-rat 1": "Type `--set learning_rate=1`.",
    "fine-tune m d -o x -b 8": "Type `--set batch_size=8`.",
    "fine-tune m d -o x -lr 8": "Type `--set learning_rate=8`.",
    "fine-tune m d -o x --img-size 64": "Type `--set model.image_size=64`.",
    "fine-tune m d -o x --n-trials 9": "Type `--trials 9`.",
    "fine-tune --model m --data d -o x": "Give MODEL and DATA without an option, as in `acclimate "
    "fine-tune efficientnet-lite0 photos.parquet -o leaf.model`.",
    "fine-tune photos": "An example: `acclimate fine-tune efficientnet-lite0 photos.parquet "
    "-o leaf.model`.",
    "fine-tune m d x": "Type `acclimate fine-tune m d -o x`.",
    "clean photos p.parquet": "Type `acclimate clean photos -o p.parquet`.",
    "clean --data photos -o x": "Give DATA without an option, as in `acclimate clean photos/ -o "
    "photos.parquet`.",
    "clean photos": "An example: `acclimate clean photos/ -o photos.parquet`.",
    "clean photos -o x --epochs 3": "`acclimate fine-tune` takes it, as --set epochs=3.",
    "predict --model m --images x": "Give MODEL and IMAGES without an option, as in `acclimate "
    "predict leaf.model photo.jpg`.",
    "predict m photos --topk 3": "Type `--top 3`.",
    "compress m d -o x --budget 1": "Type `--max-accuracy-drop 1`.",
    "compress m d -o x --max_accuracy_drop 1": "Type `--max-accuracy-drop 1`.",
    "recipe model size": "An example: `acclimate recipe fine-tune`.",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "my.yaml").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("typed", HINTS)
@pytest.mark.usefixtures("here")
def test_a_mistake_is_answered_with_what_to_type(typed):
    with pytest.raises(click.UsageError) as caught:
        cli.main(shlex.split(typed), prog_name="acclimate", standalone_mode=False)
    message = caught.value.format_message()
    assert message.endswith(f" {HINTS[typed]}")
    assert message.startswith(("No such ", "Got unexpected extra ", "Missing "))


def test_the_words_of_other_programs_lead_to_what_is_there():
    paths = set()
    for name, command in cli.commands.items():
        inner = getattr(command, "commands", None)
        paths |= {f"{name} {below}" for below in inner} if inner else {name}
    params = [p for command in cli.commands.values() for p in command.params]
    options = {option for p in params for option in (*p.opts, *p.secondary_opts)}
    settings = {name for section in SECTIONS.values() for name in section.model_fields}
    assert set(COMMANDS) <= paths
    assert set(OPTIONS) <= options
    assert set(OTHER_WORDS) <= settings
    assert not {word for words in OTHER_WORDS.values() for word in words} & settings


def test_the_installed_command_shows_its_usage_and_the_hint(cold):
    done = cold("train", "photos")
    assert done.err == (
        "Usage: acclimate [OPTIONS] COMMAND [ARGS]...\n"
        f"Try 'acclimate --help' for help.\n\nError: No such command 'train'. {TRAIN}\n"
    )
    assert done.code == 2


def test_as_json_the_hint_is_in_the_record(cold):
    done = cold("run", "--lr", "1e-3", "--json")
    record = json.loads(done.err)
    assert record["message"].endswith("Type `--set fine_tune.learning_rate=1e-3`.")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("fine_tune.lr", "Did you mean 'learning_rate'?"),
        ("fine_tune.image_size", "Did you mean 'model.image_size'?"),
        ("lr", "Did you mean 'fine_tune.learning_rate'?"),
        ("epochs", "Did you mean 'fine_tune.epochs'?"),
    ],
)
def test_a_setting_in_the_wrong_place_is_answered_with_its_place(cold, key, hint):
    done = cold("run", "--data", "photos", "--set", f"{key}=1")
    assert done.err == f"error: --set {key}: {key} is not a setting. {hint}\n"
    assert done.code == 2
