"""The Typer application, and how errors leave it: one line on stderr, exit code 1 (failed) or 2 (wrong use)."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

FAILED = 1
WRONG_USE = 2


class _QuietFlags:
    """Help without a type beside a flag, which takes no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class Command(_QuietFlags, TyperCommand):
    """One command."""


class CommandGroup(_QuietFlags, TyperGroup):
    """Several commands below one name."""


class _Commands(CommandGroup):
    """The group of all commands.  It takes --debug anywhere, and turns an exception into one line and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--debug" in args:
            args = ["--debug", *(argument for argument in args if argument != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        if ctx.params.get("debug"):
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            complain("stopped")
            raise typer.Exit(FAILED) from None
        except BrokenPipeError:
            raise typer.Exit(FAILED) from None
        except Exception as error:
            if hasattr(error, "exit_code") or isinstance(error, typer.Abort):  # Typer's own: usage, --help, exit
                raise
            complain(describe(error))
            raise typer.Exit(exit_code(error)) from None


app = typer.Typer(
    name="scalecrafter",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Pictures at 4x to 16x the pixels that a diffusion model was trained for, with no training.",
)


def exit_code(error: Exception) -> int:
    """2 where the user must ask for something else, 1 where the work failed."""
    return WRONG_USE if getattr(error, "users_fault", False) else FAILED


def describe(error: Exception) -> str:
    """An error in one line."""
    from ..errors import ScaleCrafterError

    text = " ".join(str(error).split())
    if isinstance(error, ScaleCrafterError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text} (--debug shows where)"


def complain(message: str) -> None:
    """Print one line on stderr."""
    print(f"scalecrafter: {message}", file=sys.stderr)


def _show_version(asked: bool) -> None:
    if asked:
        from .._version import __version__

        print(f"scalecrafter {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
