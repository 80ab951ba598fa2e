"""The artifacts that stages pass on come back from disk as they were."""

import pytest

from acclimate.evaluation.comparison import compare
from acclimate.pipeline.artifacts import ARTIFACTS, Slot
from acclimate.pipeline.stages import STAGES


@pytest.fixture
def artifacts(dataset, policy, start, evaluations):
    return {
        "dataset": dataset,
        "policy": policy,
        "classifier": start,
        "evaluation": evaluations[0],
        "comparison": compare(*evaluations),
    }


def test_every_kind_that_a_stage_reads_or_writes_is_an_artifact():
    kinds = {kind for stage in STAGES.values() for kind in (*stage.reads, stage.writes)}
    assert kinds == set(ARTIFACTS)
    assert len(ARTIFACTS) == 5


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_an_artifact_keeps_its_digest_through_a_folder(artifacts, kind, tmp_path):
    artifact = artifacts[kind]
    ARTIFACTS[kind].save(artifact, tmp_path)
    again = ARTIFACTS[kind].load(tmp_path)
    assert type(again) is type(artifact)
    assert again.digest == artifact.digest
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_an_artifact_written_twice_is_the_same(artifacts, kind, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ARTIFACTS[kind].save(artifacts[kind], tmp_path / name)
        artifacts[kind] = ARTIFACTS[kind].load(tmp_path / name)
    assert artifacts[kind].digest == ARTIFACTS[kind].load(tmp_path / "a").digest


def test_artifacts_of_different_content_have_different_digests(artifacts, imagenet):
    digests = {found.digest for found in (*artifacts.values(), imagenet)}
    assert len(digests) == len(ARTIFACTS) + 1


def test_a_slot_is_loaded_when_it_is_asked_for():
    loaded = []
    slot = Slot("d1", lambda: loaded.append(1) or "thing")
    assert loaded == []
    assert (slot.load(), slot.folder, slot.digest) == ("thing", None, "d1")
