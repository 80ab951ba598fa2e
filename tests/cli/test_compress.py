"""`acclimate compress`: one command from a float model to a smaller one, with its candidates."""

import csv

import pytest

SETTINGS = ("target=size", "portable=false", "calibration_images=24", "ranking_images=48")


@pytest.fixture(scope="module")
def desk(shell, workshop, tmp_path_factory):
    """A folder in which a model was compressed, and how the command ended."""
    folder = tmp_path_factory.mktemp("desk")
    model, data = workshop.step("fine-tune") / "model", workshop.made / "dataset.parquet"
    command = ["compress", model, data, "-o", "small.model", "--allow", "quantize"]
    command += [word for text in SETTINGS for word in ("--set", text)]
    return folder, command, shell(*command, "--max-accuracy-drop", "90", cwd=folder)


def test_it_prints_a_table_of_candidates_and_marks_the_chosen_one(desk):
    folder, _, done = desk
    assert done.code == 0, done.err
    assert "compared on val (* chosen)" in done.out
    assert "* " in done.out
    assert "which is within the budget of 90" in done.err
    kept = folder / "small.model.candidates"
    assert {"candidates.csv", "pareto.svg"} <= {path.name for path in kept.iterdir()}
    assert (folder / "small.model" / "model.onnx").is_file()


def test_a_budget_finer_than_val_can_tell_ends_with_3_unless_estimates_are_accepted(desk, shell):
    folder, command, _ = desk
    strict = [*command, "--force", "--max-accuracy-drop", "1"]
    done = shell(*strict, cwd=folder)
    if "int8" in (folder / "small.model" / "model.json").read_text().split('"card"')[0]:
        assert done.code == 3
        assert "cannot show that it is within the budget of 1" in done.err
        assert shell(*strict, "--accept-estimate", cwd=folder).code == 0
    assert "needs about" in done.err


def test_limits_that_nothing_meets_end_with_3_and_keep_the_float_model(desk, shell):
    folder, command, _ = desk
    done = shell(*command, "-o", "tiny.model", "--max-size-mb", "0.001", cwd=folder)
    assert done.code == 3
    assert "error: no candidate is within the limits" in done.err
    assert (folder / "tiny.model" / "model.onnx").is_file()


def test_another_candidate_is_taken_by_its_name(desk, shell):
    folder, command, _ = desk
    with (folder / "small.model.candidates" / "candidates.csv").open() as lines:
        names = [row["candidate"] for row in csv.DictReader(lines) if row["flips"]]
    wide = [*command, "--force", "--max-accuracy-drop", "90", "--json"]
    done = shell(*wide, "--pick", names[-1], cwd=folder)
    assert done.code == 0, done.err
    assert done.json["card"]["steps"][-1]["notes"][0].startswith(f"{names[-1]}: ")
    assert done.json["candidates"].endswith("small.model.candidates/candidates.csv")
    wrong = shell(*wide, "--pick", "int9", cwd=folder)
    assert wrong.code == 2
    assert "no candidate 'int9'" in wrong.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--max-accuracy-drop", "a lot"), "compress.max_accuracy_drop"),
        (("--allow", "shrink"), "compress.allow"),
        (("--target", "beauty"), "compress.target"),
    ],
)
def test_a_wrong_flag_is_one_sentence(desk, shell, flags, message):
    folder, command, _ = desk
    done = shell(*command, "--force", *flags, cwd=folder)
    assert done.code == 2
    assert message in done.err
