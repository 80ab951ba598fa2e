import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from acclimate.cleaning.scan import parallel
from acclimate.cleaning.scan.image_stats import ImageStats, measure_image
from acclimate.cleaning.scan.parallel import measure_images
from acclimate.data.settings import Decoding

BOUNDS = Decoding(max_megapixels=0.01, max_file_mb=1)


@pytest.fixture
def files(tmp_path):
    """Good and bad files with odd names."""
    paths = []
    for i in range(70):
        path = tmp_path / f"die Rose 🌹 {i:02}.png"
        pixels = np.random.default_rng(i).integers(0, 256, (9, 7 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        paths.append(path)
    paths[3].write_bytes(b"")
    paths[40].write_bytes(paths[40].read_bytes()[:80])
    Image.new("RGB", (200, 200)).save(paths[50])
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (5, 5)).save(odd)
    return [*paths, odd, tmp_path / "missing.png"]


@pytest.fixture
def many(monkeypatch):
    """So few that a test may have them count as many."""
    monkeypatch.setattr(parallel, "MIN_FOR_PROCESSES", 10)
    monkeypatch.setattr(parallel, "_CHUNK", 8)
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)


def test_processes_tell_what_a_look_tells_in_the_order_of_the_files(files, many):
    found = list(measure_images(files, BOUNDS))
    assert found == [measure_image(path, BOUNDS) for path in files]
    assert found[50].reason == "image has 0.040 megapixels, over the limit of 0.01"
    assert [i for i, seen in enumerate(found) if seen.reason] == [3, 40, 50, 71]


@pytest.mark.parametrize("with_quality", [True, False])
def test_processes_measure_what_is_asked_for(files, many, with_quality):
    found = list(measure_images(files, BOUNDS, with_quality=with_quality))
    assert found == [measure_image(path, BOUNDS, with_quality=with_quality) for path in files]
    assert (found[0].sharpness is None) != with_quality


def test_a_process_starts_without_the_weight_of_settings_and_tables():
    code = (
        "import sys, acclimate.cleaning.scan.parallel as it;"
        "from acclimate.data.images.decode import _formats;"
        "_formats(); print([m for m in ('pydantic', 'pyarrow', 'torch', 'PIL.EpsImagePlugin')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_few_files_need_no_process(files, monkeypatch):
    monkeypatch.setattr(parallel.subprocess, "Popen", None)
    assert list(measure_images(files, BOUNDS)) == [measure_image(path, BOUNDS) for path in files]


def test_where_no_process_can_be_started_threads_look(files, many, monkeypatch, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "sitecustomize.py").write_text("import os\nos._exit(1)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "home"))
    assert list(measure_images(files, BOUNDS)) == [measure_image(path, BOUNDS) for path in files]


def test_an_image_that_brings_the_decoder_down_is_told_and_the_others_are_seen(
    files, many, monkeypatch, tmp_path
):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "sitecustomize.py").write_text(
        "import os, pathlib\n"
        "read = pathlib.Path.open\n"
        "def open_(path, *a, **k):\n"
        f"    if path.name == {files[20].name!r}: os._exit(139)\n"
        "    return read(path, *a, **k)\n"
        "pathlib.Path.open = open_\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "home"))
    found = list(measure_images(files, BOUNDS))
    assert found.pop(20) == ImageStats(reason="image crashes its decoder")
    assert found == [measure_image(path, BOUNDS) for i, path in enumerate(files) if i != 20]


def test_no_process_outlives_a_look_that_is_given_up(files, many):
    others = set(_children())
    seen = measure_images(files, BOUNDS)
    next(seen)
    children = set(_children()) - others
    assert len(children) == 2
    seen.close()
    assert not children & set(_children())


def test_a_process_ends_when_its_parent_is_killed(files, many):
    code = (
        "import sys, time; from pathlib import Path; from acclimate.cleaning.scan import parallel;"
        "children = parallel._Workers(1, [80.0, 128, True, 16]);"
        "print(children._all[0].pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 20
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _children():
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stream:
                    state, parent = stream.read().rsplit(")", 1)[1].split()[:2]
            except OSError:
                continue
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(entry))
    return found


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
