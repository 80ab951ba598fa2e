"""`--report`: clean and inspect write what they found as a page with images."""

import shutil

import pytest

from acclimate.data.dataset import Dataset
from kit import paint


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(
        f"{split}/{label}/{i}.png"
        for split in ("train", "test")
        for label in ("rose", "daisy")
        for i in range(4)
    ):
        paint(tmp_path / "photos" / name, number, (32, 32))
    shutil.copy(tmp_path / "photos/test/rose/0.png", tmp_path / "photos/train/rose/leak.png")
    return tmp_path / "photos"


def test_clean_writes_a_page_that_shows_the_leak(acclimate, photos, tmp_path):
    done = acclimate("clean", photos, "-o", "p.parquet", "--report", "pages/data.html")
    assert (done.code, done.out) == (0, "dataset  p.parquet\nreport  pages/data.html\n")
    page = (tmp_path / "pages/data.html").read_text()
    assert "<title>photos · acclimate</title>" in page
    assert "same picture as test/rose/0.png in test" in page
    assert page.count("data:image/jpeg;base64,") >= 3


def test_the_page_is_written_even_if_a_flag_ends_the_command_with_3(acclimate, photos, tmp_path):
    done = acclimate(
        "clean", photos, "-o", "p.parquet", "--json", "--report", "d.html", "--fail-on", "leak"
    )
    assert done.code == 3
    assert done.json["report"] == "d.html"
    assert (tmp_path / "d.html").exists()


def test_a_page_is_replaced_with_force_alone(acclimate, photos, tmp_path):
    (tmp_path / "d.html").write_text("mine")
    command = ("clean", photos, "-o", "p.parquet", "--report", "d.html")
    done = acclimate(*command)
    assert done.code == 2
    assert "d.html: already exists. Replace it with --force" in " ".join(done.err.split())
    assert not (tmp_path / "p.parquet").exists()
    assert acclimate(*command, "--force").code == 0
    assert (tmp_path / "d.html").read_text() != "mine"


def test_a_report_is_an_html_file(acclimate, photos, tmp_path):
    done = acclimate("clean", photos, "-o", "p.parquet", "--report", "data.pdf")
    assert done.code == 2
    told = " ".join(done.err.split())
    assert "data.pdf: a report is an HTML page. Choose a name that ends in .html." in told


def test_inspect_writes_the_page_too(acclimate, workshop, dataset, tmp_path):
    dataset.save(tmp_path / "digits.parquet")
    model = workshop.step("probe") / "model"
    done = acclimate(
        "inspect", model, "digits.parquet", "-o", "i.parquet", "--report", "i.html",
        "--set", "label_error=0.3",
    )  # fmt: skip
    assert done.code == 0, done.err
    flagged = Dataset.load(tmp_path / "i.parquet").table["suggested_label"].null_count
    assert flagged < len(dataset)
    assert "Possible label errors" in (tmp_path / "i.html").read_text()
