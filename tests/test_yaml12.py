"""YAML 1.2 as recipes use it; what is hostile or malformed is tried in test_recipe.py."""

import pytest
import yaml

from acclimate.yaml12 import SafeLoader12, read_yaml

YAML_12 = {
    "1e-4": 1e-4,
    "1E5": 1e5,
    "-.5": -0.5,
    "5.": 5.0,
    ".inf": float("inf"),
    "-.INF": float("-inf"),
    "0o17": 15,
    "0x1F": 31,
    "0755": 755,
    "-3": -3,
    "+3": 3,
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    "no": "no",
    "yes": "yes",
    "on": "on",
    "Off": "Off",
    "y": "y",
    "1_000": "1_000",
    "12:30:45": "12:30:45",
    "2024-01-31": "2024-01-31",
    "0b11": "0b11",
    "<<": "<<",
    "=": "=",
    '"1e-4"': "1e-4",
    "'true'": "true",
    "1e": "1e",
    "e4": "e4",
    "v1.0": "v1.0",
}


@pytest.mark.parametrize(("text", "value"), YAML_12.items())
def test_a_plain_scalar_means_what_yaml_1_2_says(text, value):
    found = yaml.load(f"[{text}]" if text else "[~]", SafeLoader12)[0]
    assert found == value
    assert type(found) is type(value)


def test_no_number_is_no_number():
    assert yaml.load("x: .nan", SafeLoader12)["x"] != yaml.load("x: .nan", SafeLoader12)["x"]


def test_every_key_has_its_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: x\n\n# why\nfine_tune:\n  epochs: 3\n  optimizer: sgd\nprune: {ratio: 0.5}\n"
    )
    values, places = read_yaml(path)
    assert values == {
        "name": "x",
        "fine_tune": {"epochs": 3, "optimizer": "sgd"},
        "prune": {"ratio": 0.5},
    }
    assert {".".join(keys): place.rpartition(":")[2] for keys, place in places.items()} == {
        "name": "1",
        "fine_tune": "4",
        "fine_tune.epochs": "5",
        "fine_tune.optimizer": "6",
        "prune": "7",
        "prune.ratio": "7",
    }
