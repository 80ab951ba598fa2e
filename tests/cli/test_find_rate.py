"""`acclimate find-rate`: a curve, a picture, a rate; nothing of the user's is replaced."""

import csv

import pytest

SMALL = ("--set", "batch_size=8")


@pytest.fixture
def model(workshop):
    return workshop.step("fine-tune") / "model"


@pytest.fixture
def data(workshop):
    return workshop.step("clean") / "dataset.parquet"


def test_rates_are_tried_and_drawn(acclimate, model, data, tmp_path):
    before = {p: p.read_bytes() for p in model.iterdir()}
    done = acclimate("find-rate", model, data, "-o", "rates", *SMALL)
    assert (done.code, done.err.count("Traceback")) == (0, 0)
    rates = tmp_path / "rates"
    assert sorted(p.name for p in rates.iterdir()) == ["rates.csv", "rates.svg"]
    with (rates / "rates.csv").open() as stream:
        lines = [{k: float(v) for k, v in line.items()} for line in csv.DictReader(stream)]
    assert 10 < len(lines) <= 60
    at_floor = min(line["loss"] for line in lines)
    left = [line for line in lines if line["loss"] - at_floor <= 2 * line["error"]][-1]
    suggested = 0.5 * left["rate"]
    assert done.out.splitlines()[0] == (
        f"learning_rate  {suggested:.2g} (half of the rate at which the loss leaves its floor)"
    )
    picture = (rates / "rates.svg").read_text()
    assert picture.startswith("<svg ")
    assert "learning rate (dotted: suggestion)" in picture
    assert {p: p.read_bytes() for p in model.iterdir()} == before

    again = acclimate("find-rate", model, data, "-o", "rates", *SMALL)
    assert again.code == 2
    assert again.err.strip() == (
        "error: rates: already exists. Choose another place with --out, or replace it with --force."
    )
    forced = acclimate("find-rate", model, data, "-o", "rates", *SMALL, "--force", "--json")
    assert forced.code == 0, forced.err
    assert forced.json["learning_rate"] == pytest.approx(suggested, rel=1e-4)


def test_another_folder_is_never_replaced(acclimate, model, data, tmp_path):
    place = tmp_path / "mine"
    place.mkdir()
    (place / "rates.csv").write_text("mine")
    (place / "letter.txt").write_text("mine")
    done = acclimate("find-rate", model, data, "-o", place, "--force")
    assert done.code == 2
    assert "already exists and was not written by acclimate" in done.err
    assert (place / "rates.csv").read_text() == "mine"
