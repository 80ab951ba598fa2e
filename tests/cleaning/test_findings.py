"""What is found follows the policy, and gives way to a person's decision."""

import pytest

from acclimate.cleaning.clean import clean
from acclimate.cleaning.findings import Findings
from acclimate.cleaning.settings import Clean
from acclimate.data.sample_data import write_digits
from acclimate.data.settings import Source
from acclimate.data.sources.read import read


def test_the_policy_says_which_findings_leave_an_image_out(dataset):
    rows = dataset.rows("train")[:2].tolist()
    findings = Findings(dataset, Clean(drop=("dark",)))
    assert findings.add(rows[0], "blurred", "blurred")
    findings.add(rows[0], "dark", "dark")
    findings.add(rows[1], "blurred", "blurred")
    told = dataset.with_columns(findings.columns())
    assert [told.keep[row] for row in rows] == [False, True]
    flags = [told.table["flags"][row].as_py() for row in rows]
    assert flags == [["dark", "blurred"], ["blurred"]]  # the one that dropped it comes first
    assert told.table["reasons"][rows[0]].as_py() == ["dark"]


@pytest.mark.parametrize("action", ["keep", None])
def test_a_copy_that_a_person_told_to_keep_stays(tmp_path, context, action):
    photos = tmp_path / "photos"
    write_digits(photos, per_class=8)
    first = sorted((photos / "train" / "3").iterdir())[0]
    copy = first.with_name("again.png")
    copy.write_bytes(first.read_bytes())
    fixes = tmp_path / "fixes.csv"
    name = copy.relative_to(photos).as_posix()
    fixes.write_text(f"path,action\n{name},keep\n")
    dataset = clean(
        read(photos, Source(fix_list=fixes if action else None)), Clean(), context=context
    )
    assert dataset.keep[dataset.paths.index(first.relative_to(photos).as_posix())]
    assert dataset.keep[dataset.paths.index(name)] == (action == "keep")
