"""What to type in place of a mistyped command, option or argument: one sentence for each.

The general rule is the nearest name; two small tables hold what other programs call a thing.
"""

import difflib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from acclimate.cli.command import AcclimateCommand

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "augment": ("aug", "augmentation", "augmentations"),
    "clean": ("check", "dedup", "dedupe", "deduplicate", "data", "import", "prepare", "split"),
    "compare": ("diff", "versus", "vs"),
    "compress": ("optimise", "optimize", "shrink"),
    "distill": ("distil", "distillation", "teach"),
    "doctor": ("devices", "diagnose", "env", "environment", "gpu", "info", "system"),
    "evaluate": ("accuracy", "bench", "benchmark", "eval", "measure", "score", "test", "val",
                 "validate"),
    "export": ("convert", "onnx", "to-onnx"),
    "find-rate": ("find-lr", "lr-find", "lr-finder"),
    "fine-tune": ("fit", "learn", "train", "training", "transfer", "tune"),
    "inspect": ("audit", "find-errors", "label-errors", "outliers"),
    "models available": ("backbones", "model-zoo", "pretrained", "zoo"),
    "models list": ("list", "ls", "registry", "versions"),
    "predict": ("classify", "infer", "inference", "label", "prediction", "recognize"),
    "probe": ("features", "linear-probe"),
    "prune": ("pruning", "slim", "sparsify"),
    "quantize": ("int8", "ptq", "quantise", "quantization"),
    "recipe": ("config", "defaults", "init", "options", "schema", "settings"),
    "run": ("all", "auto", "automl", "fit", "pipeline", "start", "train", "workflow"),
}  # fmt: skip
"""Name of a command to what other programs call it; a name has a space below a group."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "--data": ("data-dir", "data-path", "dataset", "dataset-path", "dir", "folder", "image",
               "image-dir", "images", "img", "input", "path", "root", "source", "train",
               "train-dir"),
    "--debug": ("trace", "traceback", "v", "verbose"),
    "--device": ("accelerator", "cpu", "cuda", "gpu", "gpus", "mps"),
    "--dry-run": ("dryrun", "plan", "preview"),
    "--fix-list": ("corrections", "fixes"),
    "--force": ("f", "overwrite", "replace", "y", "yes"),
    "--labels": ("ground-truth", "targets", "y-true"),
    "--max-accuracy-drop": ("accuracy-budget", "budget", "max-drop", "tolerance"),
    "--max-minutes": ("max-time", "minutes", "time", "time-limit", "timeout"),
    "--model": ("arch", "architecture", "backbone", "base-model", "model-name", "model-path",
                "m", "net", "network", "pretrained"),
    "--name": ("experiment", "project", "run-name"),
    "--out": ("dest", "destination", "exp-dir", "output", "output-dir", "output-file", "save",
              "save-dir", "save-path", "save-to", "work-dir"),
    "--quiet": ("q", "silent"),
    "--recipe": ("c", "cfg", "conf", "config", "config-file", "settings"),
    "--report": ("html", "html-report"),
    "--seed": ("random-seed", "random-state"),
    "--set": ("opts", "override", "param"),
    "--top": ("k", "top-k", "topk"),
    "--trials": ("n-trials", "num-trials", "search"),
    "--tta": ("augment", "test-time-augmentation"),
    "--until": ("stages", "stop-after", "stop-at"),
}  # fmt: skip
"""An option to what other programs call it, without dashes."""

_ANSWERS: Mapping[str, str] = {
    "classes": "The classes are those of the data: one folder per class.",
    "num-classes": "The classes are those of the data: one folder per class.",
    "num-workers": "The number of processes is chosen from the machine's cores.",
    "resume": "Run the same command again: it resumes where it stopped.",
    "workers": "The number of processes is chosen from the machine's cores.",
}
"""A word to the answer, for an option of other programs that is not needed here."""

_USED_BY_STAGES = ("model", "data", "clean", "augment", "search", "registry")
"""Sections that the command of a stage reads besides its own."""


def command_hint(root: click.Command, group: click.Group, name: str) -> str:
    """What to type in place of an unknown command.

    Args:
        root: The command `acclimate`.
        group: The group in which it was looked up.
        name: What the user wrote.

    Returns:
        A sentence.
    """
    place = Path(name)
    if place.exists():
        option = "--recipe" if place.suffix in (".yaml", ".yml") else "--data"
        return _type(f"acclimate run {option} {shlex.quote(name)}")
    word = _plain(name)
    if word in ("help", "version"):
        return _type(f"acclimate --{word}")
    examples = {path: command.example for path, command in _leaves(root)}
    below = "" if group is root else f"{group.name} "
    known = _words_for(examples, COMMANDS)
    for path in examples:  # "promote" without "models"
        known.setdefault(path.rpartition(" ")[2], [path])
    found = known.get(f"{below}{word}") or known.get(word) or _near(f"{below}{word}", known)
    if found:
        return _type(*(examples[path] for path in found[:2]))
    return f"`{f'acclimate {below}'.strip()} --help` lists the commands."


def first_options_hint(ctx: click.Context, option: str, args: Sequence[str]) -> str:
    """What to type in place of an option that stands before the command.

    Args:
        ctx: Of a group of commands.
        option: With its dashes.
        args: All arguments of the group.

    Returns:
        A sentence.
    """
    taking = [(path, c) for path, c in _leaves(ctx.command) if option in _options(c)]
    if not taking:
        return f"`{ctx.command_path} COMMAND --help` lists the options of a command."
    path, command = taking[0]
    given = _with_value(command, option, _value(option, args))
    return f"Options follow the command, as in `{ctx.command_path} {path} {given}`."


def option_hint(ctx: click.Context, option: str, args: Sequence[str]) -> str:
    """What to type in place of an unknown option.

    Args:
        ctx: Of the command.
        option: With its dashes.
        args: All arguments of the command.

    Returns:
        A sentence.
    """
    command = cast("AcclimateCommand", ctx.command)
    word, value = _plain(option.partition("=")[0].lstrip("-")), _value(option, args)
    known = _words_for([name for name in _options(command) if name.startswith("--")], OPTIONS)
    found = known.get(f"--{word}") or known.get(word) or known.get(_setting_option(word))
    if found:
        if found[0] == "--device" and word != "device":
            value = _device(word, value)
        return _type(_with_value(command, found[0], value))
    if word in _ANSWERS:
        return _ANSWERS[word]
    arguments = _arguments_for(ctx, word)
    if arguments:
        return f"Give {arguments} without an option, as in `{command.example}`."
    if setting := _setting_hint(command, word, value):
        return setting
    if near := _near(f"--{word}", known):
        return _type(_with_value(command, near[0], value))
    return f"`{ctx.command_path} --help` lists the options."


def _arguments_for(ctx: click.Context, word: str) -> str | None:
    """The arguments of a command, if a word is an option of other commands for one of them."""
    words = _words_for(("--data", "--model"), OPTIONS)
    return " and ".join(_metavars(ctx)) if word in words or f"--{word}" in words else None


def _setting_hint(command: "AcclimateCommand", word: str, value: str | None) -> str | None:
    """What to type if a word is a setting of the recipe and has no option of its own."""
    from acclimate.recipe import SECTIONS, Recipe
    from acclimate.setting_faults import settings_meant

    places = settings_meant(Recipe, word)
    if not places:
        names = {name for section in SECTIONS.values() for name in section.model_fields}
        near = difflib.get_close_matches(word.replace("-", "_"), sorted(names), 1, 0.8)
        places = settings_meant(Recipe, near[0]) if near else []
    if not places:
        return None
    shown = "VALUE" if value is None else shlex.quote(value)
    sections = {place.partition(".")[0]: place for place in places}
    own = command.section
    if own in sections:
        return _type(f"--set {sections[own].partition('.')[2]}={shown}")
    usable = [s for s in sections if own is not None and (not own or s in _USED_BY_STAGES)]
    if usable:
        return _type(f"--set {sections[usable[0]]}={shown}")
    section, _, name = places[0].partition(".")
    return f"`acclimate {section.replace('_', '-')}` takes it, as --set {name}={shown}."


def extra_arguments_hint(ctx: click.Context, extra: Sequence[str], args: Sequence[str]) -> str:
    """What to type in place of arguments that are too many.

    Args:
        ctx: Of the command.
        extra: The arguments that are too many.
        args: All arguments of the command.

    Returns:
        A sentence.
    """
    command = cast("AcclimateCommand", ctx.command)
    options = _options(command)
    if "--data" in options and len(extra) <= 2:
        names = ("--data",) if len(extra) == 1 else ("--model", "--data")
        return _type(_moved(ctx, args, dict(zip(names, extra, strict=True))))
    if not _metavars(ctx) and len(extra) == 1 and Path(extra[0]).exists():
        return _type(f"acclimate run --data {shlex.quote(extra[0])}")
    if len(extra) == 1 and "-o" in options and not {"-o", "--out"} & set(args):
        return _type(_moved(ctx, args, {"-o": extra[0]}))
    return f"An example: `{command.example}`."


def missing_hint(ctx: click.Context, extra: Sequence[str], args: Sequence[str]) -> str:
    """What to type if an argument or an option is missing.

    Args:
        ctx: Of the command.
        extra: The arguments that are too many.
        args: All arguments of the command.

    Returns:
        A sentence.
    """
    if len(extra) == 1:
        return extra_arguments_hint(ctx, extra, args)
    return f"An example: `{cast('AcclimateCommand', ctx.command).example}`."


def _leaves(group: click.Command, above: str = "") -> "Iterator[tuple[str, AcclimateCommand]]":
    """All commands with their names, "models list" for one of a group."""
    for name, command in getattr(group, "commands", {}).items():
        if isinstance(command, click.Group):
            yield from _leaves(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _options(command: click.Command) -> list[str]:
    options = [p for p in command.params if isinstance(p, click.Option)]
    return [name for p in options for name in (*p.opts, *p.secondary_opts)]


def _metavars(ctx: click.Context) -> list[str]:
    arguments = [p for p in ctx.command.params if isinstance(p, click.Argument)]
    return [(p.metavar or p.human_readable_name).upper() for p in arguments]


def _words_for(names: Iterable[str], table: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Each name and what other programs call it, to the names that it may mean."""
    found: dict[str, list[str]] = {}
    for name in names:
        for word in (name, *table.get(name, ())):
            found.setdefault(word, []).append(name)
    return found


def _near(word: str, known: Mapping[str, list[str]]) -> list[str]:
    near = difflib.get_close_matches(word, sorted(known), 1, 0.75)
    return known[near[0]] if near else []


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _value(option: str, args: Sequence[str]) -> str | None:
    """The value that the user gave with an option, if any."""
    for given, following in zip(args, [*args[1:], "-"], strict=True):
        if given.startswith(f"{option}="):
            return given.partition("=")[2]
        if given == option:
            return None if following.startswith("-") else following
    return None


def _with_value(command: click.Command, option: str, value: str | None) -> str:
    """An option with its value; without one if it is a switch or no value was given."""
    taken = next(p for p in command.params if option in (*p.opts, *p.secondary_opts))
    if value is None or getattr(taken, "is_flag", False):
        return option
    return f"{option} {shlex.quote(value)}"


def _device(word: str, value: str | None) -> str:
    """The device that --cpu, --cuda or --gpu 1 means."""
    if word == "cpu" or value == "cpu":
        return "cpu"
    return f"cuda:{value}" if word == "gpu" and value and value.isdigit() else "cuda"


def _setting_option(word: str) -> str:
    """The option for what a word of another library means: --epochs for "n-epochs"."""
    from acclimate.settings import meant_name

    return f"--{meant_name(word).replace('_', '-')}"


def _moved(ctx: click.Context, args: Sequence[str], options: Mapping[str, str]) -> str:
    """The command line with arguments given as options instead."""
    kept = list(args)
    for value in options.values():
        kept.remove(value)
    ends = [word for pair in options.items() for word in pair]
    return f"{ctx.command_path} {shlex.join([*kept, *ends])}"


def _type(*lines: str) -> str:
    return f"Type {' or '.join(f'`{line}`' for line in lines)}."
