"""The things that flow between stages come back from disk as they were."""

import pytest

from acclimate.evaluation.comparison import compare
from acclimate.pipeline.artifacts import THINGS, Slot
from acclimate.pipeline.stages import STAGES


@pytest.fixture
def things(dataset, policy, start, evaluations):
    return {
        "dataset": dataset,
        "policy": policy,
        "classifier": start,
        "evaluation": evaluations[0],
        "comparison": compare(*evaluations),
    }


def test_every_kind_that_a_stage_reads_or_writes_is_a_thing():
    kinds = {kind for stage in STAGES.values() for kind in (*stage.reads, stage.writes)}
    assert kinds == set(THINGS)
    assert len(THINGS) == 5


@pytest.mark.parametrize("kind", THINGS)
def test_a_thing_keeps_its_digest_through_a_folder(things, kind, tmp_path):
    thing = things[kind]
    THINGS[kind].save(thing, tmp_path)
    again = THINGS[kind].load(tmp_path)
    assert type(again) is type(thing)
    assert again.digest == thing.digest
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", THINGS)
def test_a_thing_written_twice_is_the_same_thing(things, kind, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        THINGS[kind].save(things[kind], tmp_path / name)
        things[kind] = THINGS[kind].load(tmp_path / name)
    assert things[kind].digest == THINGS[kind].load(tmp_path / "a").digest


def test_things_of_different_content_have_different_digests(things, imagenet):
    digests = {thing.digest for thing in (*things.values(), imagenet)}
    assert len(digests) == len(THINGS) + 1


def test_a_slot_is_loaded_when_it_is_asked_for():
    loaded = []
    slot = Slot("d1", lambda: loaded.append(1) or "thing")
    assert loaded == []
    assert (slot.load(), slot.folder, slot.digest) == ("thing", None, "d1")
