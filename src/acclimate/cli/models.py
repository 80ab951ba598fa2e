"""The `models` commands: what is registered, what happened to it, and what is removed."""

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from acclimate.cli import output
from acclimate.cli.command import AcclimateGroup
from acclimate.cli.flags import Command, Flags, shared
from acclimate.errors import count

if TYPE_CHECKING:
    from acclimate.registry.settings import Register
    from acclimate.registry.versions import Registry, Version


@click.group(cls=AcclimateGroup)
def models() -> None:
    """List pretrained models; list, compare, promote, verify and remove registered ones.

    `acclimate models available mobilenetv3` lists those with this name.
    """


def store_flags(command: Command) -> Command:
    """The options for the store and the key."""
    for option in (
        click.option(
            "--allow-unsigned", is_flag=True,
            help="Use what cannot be verified, with a warning for each.",
        ),
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

    Networks whose weights are on this machine come first; nothing is downloaded.
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
@click.argument("model", metavar="VERSION")
@store_flags
def show_one(model: str, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Show one version."""
    _, version = _registry_and_version(model, flags)
    record = output.version_record(version)
    if flags["as_json"]:
        output.print_json(record)
        return
    from acclimate.terminal import print_lines

    print_lines([f"{name:<14} {value}" for name, value in record.items()])


@models.command(example="acclimate models promote leaf/1")
@click.argument("model", metavar="VERSION")
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
@click.argument("model", metavar="VERSION")
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


@models.command("log", example="acclimate models log leaf")
@click.argument("name", required=False)
@store_flags
def show_log(name: str | None, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Show what happened to all models, or to one NAME, oldest first."""
    registry = _registry(flags)
    entries = [e for e in registry.history().entries if name is None or e.model == name]
    if name is not None and not entries:
        registry.versions(name)  # says that there is no such model
    if flags["as_json"]:
        output.print_json([asdict(entry) for entry in entries])
        return
    from acclimate.terminal import print_table

    rows = [[e.time[:19].replace("T", " "), e.action, e.model, str(e.number)] for e in entries]
    names = ["time (UTC)", "action", "model", "version"]
    print_table(f"{registry.store}: signed log", names, rows)


@models.command(example="acclimate models diff leaf/1 leaf/2")
@click.argument("before", metavar="VERSION")
@click.argument("after", metavar="VERSION")
@store_flags
def diff(before: str, after: str, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Show what differs between two versions: data, recipe, structure, figures."""
    from acclimate.registry.diff import difference
    from acclimate.registry.reference import split_reference

    registry = _registry(flags)
    versions = [registry.version(*split_reference(model)) for model in (before, after)]
    found = difference(*(registry.read(version) for version in versions))
    if flags["as_json"]:
        output.print_json(found)
        return
    from acclimate.terminal import print_lines, print_table

    data = found.pop("data")
    print_lines([f"data: {_data_line(data)}"])
    columns = ["", *(f"{version.name}/{version.number}" for version in versions)]
    for title, changes in found.items():
        if changes:
            print_table(title, columns, [[n, *map(str, sides)] for n, sides in changes.items()])
        else:
            print_lines([f"{title}: equal"])


def _data_line(data: dict[str, Any] | None) -> str:
    if data is None:
        return "unknown, since a version was registered without the list of its images"
    counts = [(data[name], name) for name in ("added", "dropped", "relabelled", "other split")]
    told = [f"{count(number, 'image')} {name}" for number, name in counts if number]
    return ", ".join(told) or "equal"


@models.command(example="acclimate models delete leaf/1")
@click.argument("model", metavar="VERSION")
@store_flags
def delete(model: str, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Delete a version that is not the champion; its number is not given again."""
    from acclimate.registry.removal import delete as delete_version

    registry, version = _registry_and_version(model, flags)
    delete_version(registry, version)
    _print_version(version, "deleted", flags)


@models.command(example="acclimate models gc --keep 3 --dry-run")
@click.option(
    "--keep", type=click.IntRange(0), default=3, show_default=True,
    help="Number of the newest versions of each model to keep.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would be removed.")
@store_flags
def gc(keep: int, dry_run: bool, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Remove versions that no alias, rollback or kept version needs."""
    from acclimate.registry.removal import collect, unneeded

    registry = _registry(flags)
    gone = unneeded(registry.history(), keep) if dry_run else collect(registry, keep)
    if flags["as_json"]:
        output.print_json([{"name": name, "number": number} for name, number in gone])
        return
    for name, number in gone:
        click.echo(f"{name}/{number}: {'would be removed' if dry_run else 'removed'}")
    if not gone:
        click.echo("nothing to remove")


@models.command("rotate-key", example="acclimate models rotate-key")
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="FILE.pem",
    help="Private key to replace.  [default: your own]",
)  # fmt: skip
@shared
def rotate_key(key: Path | None, **flags: Any) -> None:  # noqa: ANN401 - click's
    """Replace the signing key; what the old one signed stays trusted."""
    from acclimate.registry.keys import KeyFiles

    keys = KeyFiles(key)
    keys.rotate()
    if flags["as_json"]:
        output.print_json({"public": str(keys.public), "trusted": str(keys.trusted)})
    else:
        click.echo(f"new public key: {keys.public}; the old one is in {keys.trusted}")


def register_settings(flags: Flags) -> "Register":
    """The settings of the store from the options of `store_flags`."""
    from acclimate.registry.settings import Register

    return Register(store=flags["store"], key=flags["key"], allow_unsigned=flags["allow_unsigned"])


def _registry(flags: Flags) -> "Registry":
    from acclimate.registry.versions import Registry

    return Registry(register_settings(flags), create=False)


def _registry_and_version(model: str, flags: Flags) -> "tuple[Registry, Version]":
    from acclimate.registry.reference import split_reference

    registry = _registry(flags)
    return registry, registry.version(*split_reference(model))


def _print_version(version: "Version", what: str, flags: Flags) -> None:
    if flags["as_json"]:
        output.print_json(output.version_record(version))
    else:
        click.echo(f"{version.name}/{version.number}: {what}")
