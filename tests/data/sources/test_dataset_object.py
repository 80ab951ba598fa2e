"""`datasets.Dataset`, by its methods: the package itself need not be installed."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from acclimate.cleaning.clean import clean
from acclimate.data.sources.dataset_object import is_dataset_object, read_dataset_object
from acclimate.errors import DataError


class HuggingFace:
    """What `datasets.Dataset` does here, as version 5.2 does it."""

    def __init__(self, table):
        self.table, self.features = table, dict.fromkeys(table.column_names)

    def __len__(self):
        return self.table.num_rows

    def with_format(self, kind):
        assert kind == "arrow"
        return self

    def __getitem__(self, rows):
        return self.table.slice(rows.start, rows.stop - rows.start)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path):
    """Images that are paths, as of the loader `imagefolder`."""
    rows = []
    for i in range(100):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path = tmp_path / f"{i}.png"
        Image.fromarray(pixels).save(path)
        rows.append({"image": {"bytes": None, "path": str(path)}, "label": "ab"[i % 2]})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", kind), ("label", pa.string())])
    return HuggingFace(pa.Table.from_pylist(rows, schema))


def test_a_data_set_is_read_in_its_order(data, tmp_path):
    dataset = read_dataset_object(data)
    assert dataset.classes == ("a", "b")
    assert dataset.path(70).read_bytes() == (tmp_path / "70.png").read_bytes()
    assert clean(dataset).keep.all()


def test_a_mapping_of_splits_keeps_them(data):
    dataset = read_dataset_object({"train": data, "validation": data})
    assert dataset.table["split"].to_pylist() == ["train"] * 100 + ["val"] * 100


def test_an_unknown_split_is_refused(data):
    with pytest.raises(DataError, match=r"DatasetDict: split 'extra' is unknown.*data\['train'\]"):
        read_dataset_object({"train": data, "extra": data})


def test_a_changed_image_is_read_again(data, tmp_path):
    first = read_dataset_object(data)
    (tmp_path / "70.png").write_bytes((tmp_path / "71.png").read_bytes())
    again = read_dataset_object(data)
    assert again.root != first.root
    assert again.path(70).read_bytes() == (tmp_path / "71.png").read_bytes()


def test_a_missing_image_is_left_out_with_its_path(data, tmp_path):
    (tmp_path / "70.png").unlink()
    reasons = read_dataset_object(data).table["reasons"].to_pylist()
    assert reasons[70] == [f"{tmp_path}/70.png: cannot be read (No such file or directory)"]


def test_a_data_set_without_images_names_its_columns():
    with pytest.raises(
        DataError, match=r"no column holds images\. Its columns are text \(string\)"
    ):
        read_dataset_object(HuggingFace(pa.table({"text": ["a"]})))


@pytest.mark.parametrize("other", [None, "photos", {}, {"train": 1}, np.zeros(3), [1]])
def test_other_objects_are_no_data_sets(data, other):
    assert not is_dataset_object(other)
    assert is_dataset_object(data)
    assert is_dataset_object({"train": data})
