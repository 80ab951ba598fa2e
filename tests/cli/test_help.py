"""What the command says about itself: help, recipe, doctor, version."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import acclimate as package
from acclimate.pipeline.stages import STAGES
from acclimate.recipe import SECTIONS, Recipe

OTHERS = (
    "completion",
    "run",
    "demo",
    "predict",
    "recipe",
    "doctor",
    "models",
    "fixes",
    "copy",
    "find-rate",
)


def listed(text):
    """The names under "Commands:"."""
    rows = text.split("Commands:\n")[1].splitlines()
    return [row.split()[0] for row in rows if row.startswith("  ") and row[2] != " "]


def test_help_lists_every_command_and_every_stage_in_the_order_of_the_job(cold):
    done = cold("--help")
    assert done.code == 0
    assert done.err == ""
    names = listed(done.out)
    assert names[: len(STAGES) + 1] == ["run", *STAGES]
    assert sorted(names) == sorted([*STAGES, *OTHERS])
    assert "`acclimate run --data photos/` runs all stages" in done.out


def test_the_short_flag_and_python_m_say_the_same(cold, shell, tmp_path):
    long = cold("--help").out
    assert cold("-h").out == long
    done = subprocess.run(
        [sys.executable, "-m", "acclimate", "--help"], cwd=tmp_path, check=True,
        capture_output=True, text=True, env={**os.environ, **shell.env},
    )  # fmt: skip
    assert done.stdout == long


def test_the_version_is_the_packages_own(cold):
    assert cold("--version").out == f"acclimate, version {package.__version__}\n"


@pytest.mark.parametrize("name", STAGES)
def test_the_help_of_a_stage_says_what_it_takes_and_where_its_settings_are(acclimate, name):
    stage = STAGES[name]
    done = acclimate(name, "--help")
    assert done.code == 0
    words = " ".join(done.out.split())
    assert stage.summary in words
    assert f"Settings: acclimate recipe {stage.section}" in words
    for flag in ("--out", "--force", "--set", "--recipe", "--seed", "--device", "--json"):
        assert flag in words
    metavars = {"classifier": "MODEL", "dataset": "DATA", "evaluation": "EVALUATION"}
    arguments = [metavars[kind] for kind in stage.reads if kind in metavars]
    assert words.startswith(
        " ".join(["Usage: acclimate", name, "[OPTIONS]", *arguments]) + f" {stage.summary}"
    )


def test_the_help_of_run_names_its_flags(acclimate):
    words = acclimate("run", "--help").out
    for flag in (
        "--data", "--model", "--name", "--out", "--resume", "--force", "--until", "--epochs",
        "--max-minutes", "--dry-run",
        "--recipe", "--set", "--seed", "--device", "--json", "--quiet", "--debug",
    ):  # fmt: skip
        assert flag in words


def test_the_help_of_models_lists_what_can_be_done_with_versions(acclimate):
    names = listed(acclimate("models", "--help").out)
    assert sorted(names) == [
        "available", "delete", "diff", "gc", "list", "log", "promote", "rollback", "rotate-key",
        "show", "verify",
    ]  # fmt: skip


def test_recipe_prints_all_defaults_and_reads_them_back(cold, tmp_path):
    done = cold("recipe")
    assert list(yaml.safe_load(done.out)) == list(Recipe.model_fields)
    (tmp_path / "r.yaml").write_text(done.out)
    store = {
        "registry": Recipe().registry.model_copy(update={"store": tmp_path / "acclimate-store"})
    }
    assert Recipe.load(tmp_path / "r.yaml") == Recipe().model_copy(update=store)


@pytest.mark.parametrize("name", STAGES)
def test_recipe_explains_every_setting_of_a_stage(acclimate, name):
    done = acclimate("recipe", name)
    assert done.code == 0
    settings = SECTIONS[STAGES[name].section].model_fields
    cells = [line.strip("│").split("│") for line in done.out.splitlines() if line[0] == "│"]
    told = {
        cell[0].strip(): (cell[1].strip(), cell[3].strip()) for cell in cells if cell[0].strip()
    }
    assert list(told) == list(settings)
    assert all(values and meaning for values, meaning in told.values())


def test_recipe_prints_the_schema_for_editors(cold):
    schema = cold("recipe", "--schema").json
    assert list(schema["properties"]) == list(Recipe.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["FineTune"]["properties"]["epochs"]["description"].startswith("Passes")


def test_doctor_says_what_is_here(acclimate, shell):
    done = acclimate("doctor")
    assert done.code == 0
    for word in ("device", "cores", "8-bit arithmetic", "free disk here", "torch", "onnxruntime"):
        assert f"│ {word} " in done.out
    assert str(Path(shell.env["XDG_CACHE_HOME"]) / "acclimate") in done.out


def test_doctor_answers_programs_in_json(acclimate):
    findings = acclimate("doctor", "--json").json
    assert all(list(f) == ["topic", "fact", "advice"] for f in findings)
    assert findings[0]["topic"] == "device"
    found = {f["topic"]: f["fact"] for f in findings}
    assert found["acclimate"] == package.__version__


def test_help_needs_no_home_and_no_terminal(shell, tmp_path):
    done = shell.cold("--help", cwd=tmp_path, env={"HOME": "/nonexistent", "TERM": "dumb"})
    assert done.code == 0
    assert listed(done.out)[0] == "run"
