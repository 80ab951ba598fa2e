"""Every command shows what each option takes, and an example that works."""

import re
import shlex
from pathlib import Path
from typing import get_args

import click
import pytest

from acclimate.cleaning.settings import DropName
from acclimate.cli.fail_on import watched_flags
from acclimate.cli.main import cli
from acclimate.pipeline.stages import STAGES
from acclimate.recipe import SECTIONS
from acclimate.setting_help import describe

ROOT = Path(__file__).parents[2]


def commands(group, above=""):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


COMMANDS = dict(commands(cli))
OPTIONS = [
    (name, option)
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
]
NOT_IN_DOCS = {
    "demo": "`make demo` runs it",
    "models rollback": "it needs a second champion, which test_models.py makes",
    "models diff": "it needs a second version, which test_models.py makes",
    "models delete": "it needs a version that is not the champion, which test_models.py makes",
}


def in_docs():
    """The command lines of the docs, which test_docs.py runs."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = re.findall(r"^\$ (acclimate .*)$", "\n".join(p.read_text() for p in pages), re.M)
    return [shlex.split(line, comments=True) for line in lines]


def test_all_commands_are_walked():
    assert len(COMMANDS) >= 24
    assert len(OPTIONS) > 150


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_ends_with_an_example_that_works(name):
    command = COMMANDS[name]
    words = shlex.split(command.example)
    assert words[: 1 + len(name.split())] == ["acclimate", *name.split()]
    text = command.get_help(click.Context(command, info_name=name, terminal_width=80))
    assert f"\nExample:\n  $ {command.example}\n" in f"{text}\n"
    if name not in NOT_IN_DOCS:  # the docs may add settings, such as a few epochs only
        assert any(line[: len(words)] == words for line in in_docs()), command.example


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_option_says_what_it_takes(name):
    command = COMMANDS[name]
    ctx = click.Context(command, info_name=name)
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        shown, meaning = option.get_help_record(ctx)
        assert re.match(r"[A-Zaem]", option.help), option.name
        assert (
            option.help.rstrip("]").rsplit("  [")[0].endswith((".", "(default), or run all again."))
        )
        assert "TEXT" not in shown, f"{option.name}: any text is not what it takes"
        if shown.endswith("INTEGER"):
            assert "any integer" in meaning
        if isinstance(option.type, (click.IntRange, click.FloatRange)):
            assert ">" in meaning


@pytest.mark.parametrize("stage", [s for s in STAGES.values() if s.options], ids=lambda s: s.name)
def test_an_option_for_a_setting_shows_its_words_and_bounds(stage):
    fields = SECTIONS[stage.section].model_fields
    rows = {row.name: row for row in describe(SECTIONS[stage.section])}
    for name, (_, text) in stage.options.items():
        values = rows[name].values.removeprefix("list of: ").removesuffix(", null")
        if "number" in values:
            for bound in re.findall(r"\d+", values):
                assert re.search(rf"\b{bound}\b", text), name
        elif values != "text":
            assert all(word in text for word in values.split(", ")), name
        default = fields[name].default
        if default is not None and not isinstance(default, tuple):
            assert f"[default: {default}]" in text


def test_the_flags_that_stop_a_program_are_all_named():
    (option,) = [p for p in COMMANDS["clean"].params if p.name == "fail_on"]
    named = option.help.partition(": ")[2].rstrip(".").split(", ")
    assert set(watched_flags(",".join(named))) == set(named)
    known = {*get_args(DropName), "label_error", "outlier"}
    assert set(named) == known


def test_the_sections_of_a_recipe_are_all_named():
    named = COMMANDS["recipe"].epilog.removeprefix("SECTION is one of: ").rstrip(".").split(", ")
    assert [name.replace("-", "_") for name in named] == list(SECTIONS)


def test_the_values_of_a_setting_are_those_that_it_takes():
    told = 0
    for kind in SECTIONS.values():
        for row in describe(kind):
            if row.values.startswith("list of") or " of: " in row.values:
                continue
            for word in row.values.split(", "):
                value = {"true": True, "false": False, "null": None}.get(word, word)
                if re.fullmatch(r"[\w-]+", word) and word not in ("text", "path", "number"):
                    kind(**{row.name: value})
                    told += 1
                elif match := re.fullmatch(r"(?:number|integer) from (\S+) to (\S+)", word):
                    low, high = (float(end) for end in match.groups())
                    for right in (low, high):
                        kind(**{row.name: right})
                    for wrong in (low - 1, high + 1):
                        with pytest.raises(ValueError, match=row.name):
                            kind(**{row.name: wrong})
                    told += 1
    assert told > 150


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_argument_says_what_it_takes(name):
    command = COMMANDS[name]
    text = command.get_help(click.Context(command, info_name=name, terminal_width=80))
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    for argument in arguments:
        shown = (argument.metavar or argument.name).upper()
        assert re.search(rf"Arguments:\n(  .*\n)*  {shown} +[A-Z]", text)
    assert bool(arguments) == ("Arguments:" in text)
