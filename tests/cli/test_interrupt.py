"""What is left of a run that was stopped, and how it goes on."""

import json
import os
import pty
import shutil
import signal

import pytest

EPOCHS = 8


@pytest.fixture
def training(workshop, tmp_path):
    """The arguments of a run that trains long enough to be stopped. What comes before is done."""
    done = tmp_path / "runs" / "photos"
    done.mkdir(parents=True)
    shutil.copy(workshop.made / "recipe.yaml", done)
    for step in ("clean", "inspect", "probe", "augment"):
        shutil.copytree(workshop.step(step), done / workshop.step(step).name)
    return (
        "run", "--recipe", workshop.folder / "my.yaml", "--out", tmp_path / "runs",
        "--until", "fine-tune", "--set", f"fine_tune.epochs={EPOCHS}",
        "--set", f"fine_tune.patience={EPOCHS}",
    )  # fmt: skip


def stage_folders(run):
    return sorted(path.name.rsplit("-", 1)[0] for path in run.glob("[!.]*-????????"))


def under_way(run):
    """Whether fine-tuning has left its first checkpoint."""
    return lambda: any(run.glob(".fine-tune-*.part/scratch/checkpoint.pt"))


def test_a_killed_run_leaves_no_broken_folder_and_goes_on_to_the_same_weights(
    shell, training, tmp_path
):
    run = tmp_path / "runs" / "photos"
    killed = shell.start(*training, cwd=tmp_path)
    killed.wait_for(under_way(run))
    killed.signal(signal.SIGKILL)
    assert killed.wait().code == -signal.SIGKILL
    assert stage_folders(run) == ["augment", "clean", "inspect", "probe"]
    assert all((folder / "stage.json").is_file() for folder in run.glob("[!.]*-????????"))

    resumed = shell(*training, cwd=tmp_path)
    assert resumed.code == 0
    (line,) = [line for line in resumed.lines if line.startswith("resuming in")]
    epoch = int(line.split()[3]) - 1
    assert line.startswith(f"resuming in epoch {epoch + 1} of {EPOCHS} at batch 1 of ")
    told = [line.split(":")[0] for line in resumed.lines if line.startswith("epoch ")]
    assert told == [f"epoch {n}/{EPOCHS}" for n in range(epoch + 1, EPOCHS + 1)]
    assert stage_folders(run) == ["augment", "clean", "fine-tune", "inspect", "probe"]
    assert list(run.glob(".*.part")) == []

    shell(*training, "--name", "whole", cwd=tmp_path)
    digests = {
        json.loads((place / "stage.json").read_text())["digest"]
        for place in (tmp_path / "runs").glob("*/fine-tune-*")
    }
    assert len(digests) == 1


def test_a_second_run_into_a_folder_is_refused_with_one_sentence(shell, training, tmp_path):
    first = shell.start(*training, cwd=tmp_path)
    first.wait_for(under_way(tmp_path / "runs" / "photos"))
    first.signal(signal.SIGSTOP)
    before = (tmp_path / "runs" / "photos" / "recipe.yaml").read_bytes()
    second = shell(*training, "--seed", 5, cwd=tmp_path)
    assert second.code == 2
    assert second.out == ""
    assert second.lines[1:] == [
        f"error: {tmp_path}/runs/photos: another run is using this folder. "
        "Wait for it, or choose another --name."
    ]
    assert (tmp_path / "runs" / "photos" / "recipe.yaml").read_bytes() == before
    beside = shell(*training, "--name", "beside", "--until", "clean", cwd=tmp_path)
    assert beside.code == 0
    first.signal(signal.SIGKILL)
    first.wait()


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(shell, training, tmp_path, flag):
    stopped = shell.start(*training, *flag, cwd=tmp_path)
    stopped.wait_for(under_way(tmp_path / "runs" / "photos"))
    stopped.signal(signal.SIGINT)
    done = stopped.wait()
    assert done.code == 130
    assert done.out == ""
    assert "Traceback" not in done.err
    if flag:
        assert json.loads(done.lines[-1]) == {
            "code": "interrupted",
            "message": "stopped.",
            "where": None,
            "hint": "Run the same command again to resume where it stopped.",
        }
    else:
        told = "error: stopped. Run the same command again to resume where it stopped."
        assert done.lines[-1] == told
        assert "resuming in epoch" in shell(*training, cwd=tmp_path).err


def test_a_stage_alone_goes_on_too_and_clears_up(shell, workshop, tmp_path):
    given = (
        "fine-tune", workshop.step("probe") / "model", workshop.step("clean") / "dataset.parquet",
        "-o", "tuned.model", "--set", f"epochs={EPOCHS}", "--set", "batch_size=16",
    )  # fmt: skip
    killed = shell.start(*given, cwd=tmp_path)
    killed.wait_for(lambda: any(tmp_path.glob(".tuned.model.*.work/checkpoint.pt")))
    killed.signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "tuned.model").exists()
    resumed = shell(*given, cwd=tmp_path)
    assert resumed.code == 0
    assert "resuming in epoch" in resumed.err
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.model"]


def test_ctrl_c_on_a_terminal_leaves_the_sentence_as_the_last_line(shell, training, tmp_path):
    terminal, inside = pty.openpty()
    stopped = shell.start(*training, cwd=tmp_path, err=os.ttyname(inside))
    stopped.wait_for(under_way(tmp_path / "runs" / "photos"))
    stopped.signal(signal.SIGINT)
    assert stopped.wait().code == 130
    shown = os.read(terminal, 1 << 16).decode()
    os.close(inside)
    os.close(terminal)
    assert "── fine-tune" in shown
    assert "Run the same command again to resume where it stopped." in shown.splitlines()[-1]
