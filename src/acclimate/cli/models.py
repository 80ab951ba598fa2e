"""The `models` commands: list, show, promote, roll back, verify."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli import output
from acclimate.cli.command import AcclimateGroup
from acclimate.cli.flags import Command, Flags, shared

if TYPE_CHECKING:
    from acclimate.registry.versions import Registry, Version


@click.group(cls=AcclimateGroup)
def models() -> None:
    """List pretrained models; list, promote, roll back and verify registered ones.

    `acclimate models available mobilenetv3` lists those with this name.
    """


def store_flags(command: Command) -> Command:
    """The options for the store and the key."""
    for option in (
        click.option(
            "--key", type=click.Path(path_type=Path), metavar="FILE.pem",
            help="Private key to sign with.  [default: your own, made on first use]",
        ),
        click.option(
            "--store", default="acclimate-store", show_default=True,
            type=click.Path(path_type=Path), help="Folder of the store.",
        ),
    ):  # fmt: skip
        command = option(command)
    return shared(command)


@models.command("list", example="acclimate models list")
@store_flags
def list_models(**flags: Any) -> None:  # noqa: ANN401 - click's
    """List all versions of all models."""
    registry = _registry(flags)
    versions = [v for name in registry.names() for v in registry.versions(name)]
    if flags["as_json"]:
        output.print_json([output.version_record(v) for v in versions])
        return
    from acclimate.terminal import print_table

    rows = [
        [
            v.name,
            str(v.number),
            ", ".join(v.aliases),
            v.facts.get("accuracy", ""),
            v.facts.get("precision", ""),
            f"{int(v.facts.get('bytes', 0)) / 1e6:.1f} MB",
            f"{v.created:%Y-%m-%d %H:%M}",
        ]
        for v in versions
    ]
    names = ["model", "version", "alias", "accuracy", "precision", "size", "created (UTC)"]
    print_table(str(registry.store), names, rows)


@models.command(example="acclimate models available mobilenetv3")
@click.argument("pattern", required=False)
@shared
def available(pattern: str | None, **flags: Any) -> None:  # noqa: ANN401 - click's
    """List pretrained models to start from, or those whose name has PATTERN.

    PATTERN is a part of the name, or a name with * and ?. Networks whose weights are on this
    machine come first; nothing is downloaded.
    """
    from acclimate.models.available import available as find

    found = find(pattern)
    if flags["as_json"]:
        output.print_json([asdict(model) for model in found])
        return
    lines = output.columns(
        ["name", "parameters", "image size", "license", "weights"],
        [
            [
                m.name,
                "" if m.parameters is None else f"{m.parameters / 1e6:.1f} M",
                f"{m.image_size} px",
                m.license,
                m.weights + ("" if m.bytes is None else f" ({m.bytes / 1e6:.0f} MB)"),
            ]
            for m in found
        ],
    )
    if len(lines) > shutil.get_terminal_size().lines and sys.stdout.isatty():
        click.echo_via_pager("\n".join(lines))
    else:
        click.echo("\n".join(lines))


@models.command("show", example="acclimate models show leaf")
@click.argument("model")
@store_flags
def show_one(model: str, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Show one version: NAME, NAME/NUMBER or NAME@ALIAS."""
    _, version = _registry_and_version(model, flags)
    record = output.version_record(version)
    if flags["as_json"]:
        output.print_json(record)
        return
    from acclimate.terminal import print_lines

    print_lines([f"{name:<14} {value}" for name, value in record.items()])


@models.command(example="acclimate models promote leaf/1")
@click.argument("model")
@store_flags
def promote(model: str, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Make a version the champion, NAME@champion."""
    registry, version = _registry_and_version(model, flags)
    _print_version(registry.promote(version.name, str(version.number)), "champion", flags)


@models.command(example="acclimate models rollback leaf")
@click.argument("name")
@store_flags
def rollback(name: str, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Make the previous champion the champion again."""
    _print_version(_registry(flags).rollback(name), "champion again", flags)


@models.command(example="acclimate models verify leaf/1")
@click.argument("model")
@store_flags
def verify(model: str, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Check a version's files against its signature, and int8 on this processor."""
    registry, version = _registry_and_version(model, flags)
    classifier = registry.load(version)  # verifies it
    from acclimate.models.onnx.int8_check import check_int8, recorded_difference

    check_int8(classifier)
    known = recorded_difference(classifier) is not None
    int8 = ", and this processor computes int8 as where it was measured" if known else ""
    _print_version(version, f"the signature matches all files{int8}", flags)


def _registry(flags: Flags) -> "Registry":
    from acclimate.registry.settings import Register
    from acclimate.registry.versions import Registry

    return Registry(Register(store=flags["store"], key=flags["key"]), create=False)


def _registry_and_version(model: str, flags: Flags) -> "tuple[Registry, Version]":
    from acclimate.registry.reference import split_reference

    registry = _registry(flags)
    return registry, registry.version(*split_reference(model))


def _print_version(version: "Version", what: str, flags: Flags) -> None:
    if flags["as_json"]:
        output.print_json(output.version_record(version))
    else:
        click.echo(f"{version.name}/{version.number}: {what}")
