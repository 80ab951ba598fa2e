"""Commands that show an example in their help, and say what to type if they were mistyped."""

from typing import Any, NoReturn

import click

from acclimate.cli.usage_hints import (
    command_hint,
    extra_arguments_hint,
    first_options_hint,
    missing_hint,
    option_hint,
)

_ARGUMENTS = {
    "MODEL": "A name of `acclimate models available`, a model folder, an .onnx file, or "
    "models:NAME@ALIAS.",
    "DATA": "A folder with one folder per class, an archive of one, a list, or a file that "
    "`acclimate clean` wrote.",
    "EVALUATION": "A folder that `acclimate evaluate` wrote; the first is the older model.",
    "IMAGES": "Image files, and folders of them.",
    "VERSION": "NAME, NAME/NUMBER or NAME@ALIAS of a registered model.",
    "NAME": "The name of a registered model.",
    "PATTERN": "A part of the name, or a name with * and ?.",
    "SECTION": "A stage, data, model, search or registry.",
    "SHELL": "The shell.",
}
"""The name of an argument in the usage to what it takes."""


class AcclimateCommand(click.Command):
    """A command with an example.

    Args:
        *args: As click takes them.
        example: A whole command line that works in the docs.
        section: The section of the recipe that its `--set KEY=VALUE` means; "" for all sections,
            None if it has no settings.
        **kwargs: As click takes them.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's
        example: str,
        section: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - click's
    ) -> None:
        super().__init__(*args, **kwargs)
        self.example, self.section = example, section

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the arguments; a mistake is answered with what to type."""
        given = list(args)
        ctx.allow_extra_args = True  # counted here, for a better answer
        try:
            super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            # click reads -lr as -l -r.
            name = next((a for a in given if _is_cut(error.option_name, a)), error.option_name)
            _fail(f"No such option {name!r}.", option_hint(ctx, name, given), ctx)
        except click.MissingParameter as error:
            _, extra, _ = self.make_parser(ctx).parse_args(args=list(given))
            _fail(error.format_message(), missing_hint(ctx, extra, given), ctx)
        if ctx.args and not ctx.resilient_parsing:
            named = "argument" if len(ctx.args) == 1 else "arguments"
            message = f"Got unexpected extra {named} ({' '.join(ctx.args)})"
            _fail(f"{message}.", extra_arguments_hint(ctx, ctx.args, given), ctx)
        return ctx.args

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes what the arguments take, then the options."""
        arguments = [p for p in self.params if isinstance(p, click.Argument)]
        names = dict.fromkeys((p.metavar or p.human_readable_name).upper() for p in arguments)
        if names:
            with formatter.section("Arguments"):
                formatter.write_dl([(name, _ARGUMENTS[name]) for name in names])
        super().format_options(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the example, and where the settings are."""
        with formatter.section("Example"):
            formatter.width, width = len(self.example) + 8, formatter.width  # not wrapped
            formatter.write_text(f"$ {self.example}")
            formatter.width = width
        super().format_epilog(ctx, formatter)


class AcclimateGroup(click.Group):
    """A group whose commands have examples; an unknown command is answered with what to type."""

    command_class = AcclimateCommand

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options before the command's name."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            _fail(error.message, first_options_hint(ctx, error.option_name, given), ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the first word names."""
        if args and self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            hint = command_hint(ctx.find_root().command, self, args[0])
            _fail(f"No such command {args[0]!r}.", hint, ctx)
        return super().resolve_command(ctx, args)


AcclimateGroup.group_class = AcclimateGroup


def _is_cut(option: str, word: str) -> bool:
    """Whether an option is the first letter of a word with one dash."""
    return len(option) == 2 and word.startswith(option) and word[2:3] not in ("", "=")


def _fail(message: str, hint: str, ctx: click.Context) -> NoReturn:
    raise click.UsageError(f"{message} {hint}", ctx)
