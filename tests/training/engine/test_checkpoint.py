"""What a killed training leaves behind."""

import math
import os

import pytest
import torch

from acclimate.errors import ModelFileError, OutputError
from acclimate.training.curve import Epoch
from acclimate.training.engine.checkpoint import TrainState, find_state, save_state


def state(epoch=2):
    layer = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    curve = [
        Epoch(0, math.nan, 2.3, 0.1, 0.0, 0.0),
        Epoch(1, 1.5, 1.25, 0.5, 0.1, 1.5),
        Epoch(2, 1.0, 1.5, 0.4, 0.05, 3.0),
    ]
    weights = {name: t.detach().clone() for name, t in layer.state_dict().items()}
    best = {name: t + 1 for name, t in weights.items()}
    return TrainState(epoch, curve, 1, best, weights, optimizer.state_dict())


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_state_comes_back_as_it_was(tmp_path):
    kept = state()
    save_state(kept, tmp_path / "work")
    back = find_state(tmp_path / "work")
    assert back.epoch == 2
    assert back.best_epoch == 1
    assert back.curve[1:] == kept.curve[1:]
    assert math.isnan(back.curve[0].train_loss)
    assert same(back.best, kept.best)
    assert same(back.network, kept.network)
    fresh = torch.optim.AdamW(torch.nn.Linear(4, 3).parameters(), lr=9.0)
    fresh.load_state_dict(back.optimizer)
    moments = [fresh.state_dict()["state"][i]["exp_avg"] for i in range(2)]
    assert all(
        torch.equal(moment, kept.optimizer["state"][i]["exp_avg"])
        for i, moment in enumerate(moments)
    )
    assert fresh.param_groups[0]["lr"] == 0.1


def test_where_nothing_was_kept_there_is_no_state(tmp_path):
    assert find_state(None) is None
    assert find_state(tmp_path) is None
    assert find_state(tmp_path / "never made") is None


def test_a_later_state_takes_the_place_of_the_earlier(tmp_path):
    save_state(state(epoch=1), tmp_path)
    save_state(state(epoch=2), tmp_path)
    assert find_state(tmp_path).epoch == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failure_while_writing_leaves_the_earlier_state(tmp_path, monkeypatch):
    save_state(state(epoch=1), tmp_path)

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError):
        save_state(state(epoch=2), tmp_path)
    assert find_state(tmp_path).epoch == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_of_another_format_is_refused(tmp_path):
    file = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 1, "curve": [], "part": {}, "troubles": {}}, file)  # before formats
    with pytest.raises(ModelFileError) as caught:
        find_state(tmp_path)
    assert str(caught.value) == (
        f"{file}: checkpoint has format 1, and this version of Acclimate reads 2. Choose another "
        "workspace, or move the file away to train from the start."
    )


class _Evil:
    def __reduce__(self):
        return os.system, ("touch was-run",)


def test_a_checkpoint_is_read_without_running_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_state(state(), tmp_path / "work")
    file = next((tmp_path / "work").iterdir())
    torch.save({"epoch": _Evil()}, file)
    with pytest.raises(Exception, match="Weights only load failed"):
        find_state(tmp_path / "work")
    assert not (tmp_path / "was-run").exists()
