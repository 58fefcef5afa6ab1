"""What both commands have in common as typer applications."""

import sys
from typing import Annotated, NoReturn

import typer

import mezzenger
from mezzenger.cli.exits import CannotPrint, ExitCode, failed, is_terminal
from mezzenger.cli.streams import guard_streams

Config = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="The YAML file; without it, the usual places are searched."),
]


def new_application(*, is_group: bool = False) -> typer.Typer:
    """Make an application whose help is coloured for people and plain for programs."""
    is_watched = is_terminal(sys.stdout) and is_terminal(sys.stderr)
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if is_watched else None,
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=is_group,
    )


def run(application: typer.Typer, command: str) -> NoReturn:
    """Run a command to its end; that is when what it printed is written."""
    guard_streams()
    code: int | str | None = ExitCode.FINE
    try:
        try:
            application(prog_name=command)
        except SystemExit as end:
            code = end.code
        if sys.stdout is not None:
            sys.stdout.flush()
    except CannotPrint as error:
        failure = failed(command, error)
        code = code or failure
    sys.exit(code)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(mezzenger.__version__)
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
]
