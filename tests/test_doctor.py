"""What the doctor finds on this machine, and when it has advice."""

import os
from importlib.metadata import version

import torch

from acclimate.doctor import examine


def findings():
    return {finding.topic: finding for finding in examine()}


def test_everything_that_decides_the_speed_is_examined():
    found = findings()
    assert list(found)[:5] == [
        "device",
        "cores",
        "8-bit arithmetic",
        "free disk here",
        "feature cache",
    ]
    assert len(found) == len(examine())
    assert all(finding.fact for finding in found.values())


def test_installed_libraries_are_told_with_their_versions():
    found = findings()
    for name in ("acclimate", "torch", "timm", "onnxruntime", "mlflow"):
        assert found[name].fact == version(name)
        assert found[name].advice == ""


def test_without_a_gpu_it_says_what_saves_most():
    if torch.cuda.is_available():
        assert findings()["device"].fact.startswith("cuda: ")
    elif not torch.backends.mps.is_available():
        device = findings()["device"]
        assert device.fact.startswith("cpu (torch was built with")
        assert "--set model.image_size" in device.advice


def test_cores_that_may_not_be_used_are_told():
    allowed = os.sched_getaffinity(0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        os.sched_setaffinity(0, {min(allowed)})
        cores = findings()["cores"]
        assert cores.fact == f"1 of {os.cpu_count()}"
        told = "This process may use only some of the cores (affinity or CPU quota)."
        assert cores.advice == ("" if os.cpu_count() == 1 else told)
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def test_a_large_cache_is_told_with_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    empty = findings()["feature cache"]
    assert (empty.fact, empty.advice) == (f"0 MB in {tmp_path}/acclimate", "")
    (tmp_path / "acclimate").mkdir()
    with (tmp_path / "acclimate" / "rows.f32").open("wb") as stream:
        stream.truncate(6_000_000_000)  # takes no room on disk
    full = findings()["feature cache"]
    assert full.fact == f"6,000 MB in {tmp_path}/acclimate"
    assert "may be deleted" in full.advice
    assert findings()["pixel cache"].fact == f"0 MB in {tmp_path}/acclimate/pixels"


def test_decoded_images_are_told_apart_from_features(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "acclimate" / "pixels" / "kind").mkdir(parents=True)
    with (tmp_path / "acclimate" / "pixels" / "kind" / "1.rows").open("wb") as stream:
        stream.truncate(7_000_000_000)  # takes no room on disk
    pixels = findings()["pixel cache"]
    assert pixels.fact == f"7,000 MB in {tmp_path}/acclimate/pixels"
    assert "may be deleted" in pixels.advice
    features = findings()["feature cache"]
    assert (features.fact, features.advice) == (f"0 MB in {tmp_path}/acclimate", "")


def test_looking_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    assert examine() == examine()
    assert list(tmp_path.iterdir()) == []
