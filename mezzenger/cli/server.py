"""``mezzenger-server``: the daemon, in the foreground."""

import json
import logging
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Annotated, Final

import typer

import mezzenger
from mezzenger.cli.application import Config, Version, new_application
from mezzenger.cli.exits import is_terminal, reported
from mezzenger.cli.logs import log_to_stderr
from mezzenger.settings import ServerSettings, Settings

_COMMAND: Final = "mezzenger-server"


def main() -> None:
    """Run the command ``mezzenger-server``."""
    application = new_application()
    application.command()(_serve)
    application(prog_name=_COMMAND)


def _serve(
    *,
    config: Config = None,
    bind: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = None,
    pub_port: Annotated[int | None, typer.Option(metavar="PORT", help="Port that hands messages out.")] = None,
    recv_port: Annotated[int | None, typer.Option(metavar="PORT", help="Port that takes messages in.")] = None,
    persist_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="File that keeps ack=1 messages across restarts.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what happens to each message.")] = False,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Show the settings that hold, and exit.")
    ] = False,
    version: Version = False,  # noqa: ARG001  # its callback does it
) -> None:
    """Hand messages out from publishers to subscribers, until SIGTERM or Ctrl-C.

    What is not given here is taken from the environment (such as MEZZENGER_SERVER__PUB_PORT), then from the YAML file.

    Exit codes: 0 fine, 2 bad argument or configuration, 3 cannot listen, 4 persist file locked or damaged.
    """
    given = {
        "bind": bind,
        "pub_port": pub_port,
        "recv_port": recv_port,
        "persist_file": persist_file,
        "verbose": verbose or None,
    }
    with reported(_COMMAND):
        settings = Settings.load(config, server=given).server
        # Loads the server's half only now: --help and wrong settings do without it.
        server = mezzenger.MezzengerServer(settings)
        if check_config:
            _show(settings)
        else:
            _run(server)


def _run(server: "mezzenger.MezzengerServer") -> None:
    level = logging.DEBUG if server.settings.verbose else logging.INFO
    log_to_stderr(level, "%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    # Before it has begun to serve, or again after it has stopped.
    with suppress(KeyboardInterrupt):
        server.run()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(settings: ServerSettings) -> None:
    rows = [(key, _shown(value)) for key, value in settings]
    if is_terminal(sys.stdout):
        _show_table(rows)
        return
    print("# The configuration is fine. These settings of the server hold:")
    for key, value in rows:
        print(f"{key}: {value}")


def _show_table(rows: list[tuple[str, str]]) -> None:
    # Slow to load, and not needed in scripts.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("setting", "value", "meaning", title="The configuration is fine", title_justify="left")
    for key, value in rows:
        table.add_row(key, Text(value), ServerSettings.model_fields[key].description)
    Console().print(table)


def _shown(value: object) -> str:
    """Write a value as it may stand in YAML."""
    return json.dumps(value) if value is None or isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    main()
