"""The facts of a run: seeds of their own for every use, and what the machine lends."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from acclimate.context import (
    Context,
    derive_seed,
    process_count,
    process_rank,
)
from acclimate.progress import silent

names = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x1f")), max_size=4)
seeds = st.integers(0, 2**63 - 1)


@given(seeds, names)
def test_a_derived_seed_is_below_2_to_the_63_and_always_the_same(seed, uses):
    derived = derive_seed(seed, *uses)
    assert 0 <= derived < 2**63
    assert derived == derive_seed(seed, *uses) == Context(seed=seed).seed_for(*uses)


@given(seeds, names, names)
def test_another_use_has_another_seed(seed, uses, others):
    assert (derive_seed(seed, *uses) == derive_seed(seed, *others)) == (uses == others)


@given(seeds, seeds)
def test_another_run_has_other_seeds(seed, other):
    assert (derive_seed(seed, "order", 1) == derive_seed(other, "order", 1)) == (seed == other)


def test_seeds_are_the_same_on_every_machine_and_in_every_process():
    assert derive_seed(0, "shuffle", 3) == 7105302989939984796
    code = "from acclimate.context import derive_seed; print(derive_seed(0, 'shuffle', 3))"
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    assert int(done.stdout) == derive_seed(0, "shuffle", 3)


def test_numbers_and_their_texts_name_the_same_use():
    assert derive_seed(0, "epoch", 3) == derive_seed(0, "epoch", "3")
    assert derive_seed(0, "epoch", 3) != derive_seed(0, "epoch3")


def test_a_context_that_is_told_nothing_runs_anywhere_and_says_nothing(cache):
    here = Context()
    assert (here.seed, here.device, here.workspace, here.progress) == (0, "auto", None, silent)
    assert here.cache == cache / "acclimate"


def test_alone_a_process_is_the_first_of_one(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (process_rank(), process_count()) == (0, 1)


def test_under_torchrun_a_process_knows_its_place(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (process_rank(), process_count()) == (3, 4)
