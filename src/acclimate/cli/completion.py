"""Tab completion: the command that prints a shell's script, and what is completed."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

from acclimate.cli.command import AcclimateCommand

VARIABLE = "_ACCLIMATE_COMPLETE"
"""The environment variable through which a shell asks what a word may become."""

_SHELLS = ("bash", "zsh", "fish")
_Complete = Callable[[click.Context, click.Parameter, str], list["CompletionItem[str]"]]


@click.command(cls=AcclimateCommand, example="acclimate completion bash")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and model names with the tab key.

    In bash, add this line to ~/.bashrc: eval "$(acclimate completion bash)". In zsh, to ~/.zshrc:
    eval "$(acclimate completion zsh)". In fish: acclimate completion fish >
    ~/.config/fish/completions/acclimate.fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "acclimate", VARIABLE).source())


def one_of(*words: str) -> _Complete:
    """Completes words.

    Args:
        *words: All words.

    Returns:
        A function for click's `shell_complete`.
    """
    return lambda ctx, parameter, start: [
        CompletionItem(word) for word in words if word.startswith(start)
    ]


class ModelName(click.ParamType):  # type: ignore[type-arg, unused-ignore] # generic since 8.4
    """A name of a model, a folder or a file: the shell completes all of them."""

    name = "model"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """Takes every text: what is no model is answered when it is looked up."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list["CompletionItem[str]"]:
        """The networks whose names begin so; files if there are none."""
        from acclimate.models.available import network_names

        found = [name for name in network_names() if name.startswith(incomplete)]
        if not incomplete:  # a thousand names would hide those that are used most
            found = [name for name in found if not name.startswith("timm:")]
            return [CompletionItem(name) for name in [*found, "timm:"]]
        return [CompletionItem(n) for n in found] or [CompletionItem(incomplete, type="file")]


@add_completion_class
class _Bash(BashComplete):
    """Completion in bash, which takes timm:resnet50 for three words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is completed, and its beginning."""
        number = int(os.environ["COMP_CWORD"])
        words = split_arg_string(os.environ["COMP_WORDS"])[: number + 1]
        whole = _joined(words) if len(words) > number else [*_joined(words), ""]
        self._cut = 0
        if ":" in words:
            self._cut = whole[-1].rpartition("=")[2].rfind(":") + 1
        return whole[1:-1], whole[-1]

    def format_completion(self, item: "CompletionItem[str]") -> str:
        """The part of a word that bash adds: what stands before the colon is there already."""
        return f"{item.type},{item.value[self._cut :]}"


def _joined(words: Sequence[str]) -> list[str]:
    """Words as they were typed: bash splits them at colons and equal signs."""
    found: list[str] = []
    for word in words:
        if found and (word in (":", "=") or found[-1].endswith((":", "="))):
            found[-1] += word
        else:
            found.append(word)
    return found
