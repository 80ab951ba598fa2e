"""The report: one file with every measured figure, and no external or injected code."""

import base64
import io
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pytest
import timm
import torch
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.cleaning.settings import Clean
from acclimate.context import Context
from acclimate.data.settings import Source
from acclimate.data.sources.read import read
from acclimate.evaluation.comparison import compare, sentence
from acclimate.evaluation.evaluate import evaluate
from acclimate.evaluation.latency import Latency
from acclimate.evaluation.settings import Evaluate
from acclimate.models.classifier import StepRecord
from acclimate.models.pretrained import resized, wrap
from acclimate.recipe import Recipe
from acclimate.reporting.report import mistakes, report

STAGES = [
    {
        "stage": "clean", "key": "0123456789abcdef0123456789abcdef", "seconds": 1.25,
        "began": "2026-01-02T03:04:05+00:00", "machine": {"python": "3.11.9", "device": "cpu"},
    },
]  # fmt: skip
QUICK = Evaluate(bootstrap=100, latency=False)


class Page(HTMLParser):
    """Tags with their attributes, and the visible text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def check_self_contained(html):
    """Opening the page fetches nothing and runs nothing."""
    page = Page(html)
    forbidden = {"script", "iframe", "object", "embed", "link", "base", "form", "video", "audio"}
    assert forbidden.isdisjoint(name for name, _ in page.tags)
    for name, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), (name, key)
            if key in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                own = ("#", "data:image/jpeg;base64,", "data:image/png;base64,")
                assert value.startswith(own), (name, key, value[:60])
            if key == "style":
                assert "url(" not in value.replace("url(#", "")
        if name == "meta":
            assert attributes.get("http-equiv") is None
    (style,) = [part for part in html.split("<style>")[1:2]]
    assert "url(" not in style.split("</style>")[0]
    assert "@import" not in style.split("</style>")[0]
    return page


@pytest.fixture(scope="module")
def whole(dataset, tuned, evaluations):
    """The arguments that a run gives."""
    before, after = evaluations
    return {
        "recipe": Recipe().to_yaml(),
        "dataset": dataset,
        "classifier": tuned,
        "evaluations": {
            "probe": replace(before, latency=Latency(8.0, 9.0, 200.0)),
            "final": replace(after, latency=Latency(2.0, 3.0, 900.0), runtime="onnx"),
        },
        "comparisons": {"gain": compare(before, after)},
        "stages": STAGES,
        "registered": "digits/3",
    }


@pytest.fixture(scope="module")
def html(whole):
    """The page of a whole run."""
    return report(**whole)


def test_the_page_is_one_file_that_fetches_and_runs_nothing(html):
    assert html.startswith("<!doctype html>")
    page = check_self_contained(html)
    assert len(page.all("svg")) == 7
    assert len(html) < 2_000_000


def test_the_page_holds_every_figure_that_was_measured(html, whole, evaluations):
    words = Page(html).words
    for evaluation in evaluations:
        for domain in ("home", "shifted"):
            found = evaluation.metrics[domain]["accuracy"]
            assert f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" in words
        assert f"{evaluation.metrics['home']['macro_f1'].value:.3f}" in words
    assert sentence(whole["comparisons"]["gain"]) in words
    assert "2.00 ms latency per image; baseline 8.00 ms in PyTorch" in words
    assert "ONNX Runtime float32" in words


def test_the_page_shows_its_provenance(html, dataset, tuned):
    words = Page(html).words
    assert words.startswith("digits/3 · acclimate")
    for text in (
        dataset.digest, tuned.digest, "0123456789abcdef", "python 3.11.9", tuned.card.source,
        "label_smoothing: 0.1", "Apache-2.0",
    ):  # fmt: skip
        assert text in words
    assert f"{len(dataset):,} files, {int((~dataset.keep).sum()):,} dropped" in words


def test_the_page_names_every_class_and_domain(html, dataset):
    words = Page(html).words
    assert "Metrics by class class images recall precision F1 0 " in words
    assert "Metrics by class · shifted" in words
    assert len(dataset.classes) == 10


def test_a_page_of_one_domain_shows_no_other(whole, digits, tuned, context):
    home = clean(read(digits), context=context)
    found = evaluate(tuned, home, QUICK, context=context, name="final")
    words = check_self_contained(
        report(**{**whole, "dataset": home, "evaluations": {"final": found}, "comparisons": {}})
    ).words
    assert "shifted" not in words
    assert "Is the difference real?" in words


def test_a_page_without_times_leaves_their_places_empty(whole, evaluations):
    plain = dict(zip(("probe", "final"), evaluations, strict=True))
    page = check_self_contained(report(**{**whole, "evaluations": plain}))
    assert "baseline 8.00 ms" not in page.words
    assert len(page.all("svg")) == 6


def test_a_page_with_latency_of_the_last_model_only_shows_no_baseline_latency(whole, evaluations):
    some = {"probe": evaluations[0], "final": whole["evaluations"]["final"]}
    words = check_self_contained(report(**{**whole, "evaluations": some})).words
    assert "baseline 8.00 ms" not in words
    assert "2.00 ms" in words


def test_a_page_without_mistakes_has_no_images_of_them(whole, evaluations):
    right = all_right(evaluations[1])
    page = Page(report(**{**whole, "evaluations": {"final": right}, "comparisons": {}}))
    assert "Most confident mistakes No mistakes to show." in page.words
    assert page.all("img") == []


def all_right(evaluation):
    """The evaluation, with all predictions correct."""
    labels = evaluation.table["label"].to_pylist()
    tops = [
        [label, *(c for c in top if c != label)][: len(top)]
        for label, top in zip(labels, evaluation.table["top_classes"].to_pylist(), strict=True)
    ]
    place = evaluation.table.schema.get_field_index("top_classes")
    kind = evaluation.table.schema.field(place).type
    return replace(
        evaluation,
        table=evaluation.table.set_column(place, "top_classes", pa.array(tops, kind)),
    )


def test_a_page_without_training_has_no_curves(whole, imagenet):
    page = check_self_contained(report(**{**whole, "classifier": imagenet, "registered": None}))
    assert len(page.all("svg")) == 6
    assert page.words.startswith("tf_efficientnet_lite0 · acclimate")


def test_mistakes_are_real_images_the_most_confident_first(evaluations, dataset):
    found = mistakes(evaluations[0], dataset)
    outcomes = evaluations[0].outcomes("home")
    assert len(found) == min(24, int((outcomes.labels != outcomes.predictions).sum()))
    assert [m.confidence for m in found] == sorted((m.confidence for m in found), reverse=True)
    for mistake in found:
        assert mistake.label != mistake.predicted
        assert mistake.path.split("/")[-2] == mistake.label
        data = base64.b64decode(mistake.image.removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", (64, 64))


def test_the_number_of_mistakes_shown_is_limited(evaluations, dataset):
    assert len(mistakes(evaluations[0], dataset, most=2)) == 2


def test_a_missing_image_file_does_not_fail_the_page(whole, evaluations, dataset, tmp_path):
    moved = replace(dataset, root=tmp_path)
    assert mistakes(evaluations[0], moved) == []
    assert "No mistakes to show." in Page(report(**{**whole, "dataset": moved})).words


HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "\"><script src='http:--evil.example-x.js'>",
    "{{ 7 * 7 }}",
    "$\\frac{$",
    "玫瑰 & rose",
)


@pytest.fixture
def hostile(digits, tmp_path):
    """A folder with HTML in the names of its classes, files and domain."""
    folder = tmp_path / "photos"
    for split in ("train", "val", "test"):
        for digit, label in enumerate(HOSTILE):
            place = folder / split / label
            place.mkdir(parents=True)
            for image in sorted((digits / split / str(digit)).iterdir())[:4]:
                shutil.copy(image, place / f"<b onclick=alert(2)>{image.name}")
    (folder / "train" / HOSTILE[0] / "<svg onload=alert(3)>.jpg").write_bytes(b"")
    shutil.copytree(folder / "test", tmp_path / "domain")
    domains = {"<i onmouseover=alert(4)>lab</i>": tmp_path / "domain"}
    return clean(read(folder, Source(test_domains=domains)), Clean(), context=Context())


def test_html_in_names_is_shown_and_not_interpreted(hostile, context):
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False, num_classes=len(HOSTILE))
    plain = resized(wrap(network), 32)
    step = StepRecord("<u onfocus=alert(5)>", notes=("<a href='http://evil.example'>note</a>",))
    model = replace(plain.after(step), classes=hostile.classes)
    found = evaluate(model, hostile, QUICK, context=context, name="<s onblur=alert(6)>")
    html = report(
        recipe="name: </pre><script>alert(7)</script>",
        dataset=hostile,
        classifier=model,
        evaluations={"<em onclick=alert(8)>before": found, "final": found},
        comparisons={"gain": compare(found, found)},
        stages=STAGES,
        registered=None,
    )
    page = check_self_contained(html)
    for text in (
        *HOSTILE, "<b onclick=alert(2)>", "<svg onload=alert(3)>.jpg: file is empty (0 bytes)",
        "<i onmouseover=alert(4)>lab</i>", "<u onfocus=alert(5)>", "<s onblur=alert(6)>",
        "</pre><script>alert(7)</script>", "<em onclick=alert(8)>before",
        "<a href='http://evil.example'>note</a>",
    ):  # fmt: skip
        assert text in page.words, text
    assert {name for name, _ in page.tags}.isdisjoint({"i", "u", "s", "em", "a"})
