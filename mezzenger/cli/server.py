"""``mezzenger-server``: the daemon, in the foreground."""

import logging
import signal
from contextlib import suppress
from types import FrameType
from typing import Annotated, Final

import typer

import mezzenger
from mezzenger.cli.application import Config, Version, new_application, run
from mezzenger.cli.check import show
from mezzenger.cli.exits import reported
from mezzenger.cli.logs import log_to_stderr

_COMMAND: Final = "mezzenger-server"


def main() -> None:
    """Run the command ``mezzenger-server``."""
    application = new_application()
    application.command()(_serve)
    run(application, _COMMAND)


def _serve(
    *,
    config: Config = None,
    bind: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = None,
    pub_port: Annotated[int | None, typer.Option(metavar="PORT", help="Port that hands messages out.")] = None,
    recv_port: Annotated[int | None, typer.Option(metavar="PORT", help="Port that takes messages in.")] = None,
    persist_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="File that keeps ack=1 messages across restarts.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what the server sends, stores and settles.")] = False,
    check_config: Annotated[
        bool, typer.Option("--check-config", help="Show the settings that hold, and exit.")
    ] = False,
    version: Version = False,  # noqa: ARG001  # its callback does it
) -> None:
    """Hand messages out from publishers to subscribers, until SIGTERM or Ctrl-C.

    What is not given here is taken from the environment (such as MEZZENGER_SERVER__PUB_PORT), then from the YAML file.

    Exit codes: 0 fine, 1 failed while it ran, 2 bad argument or configuration, 3 cannot listen, 4 persist file locked
    or damaged.
    """
    given = {
        "bind": bind,
        "pub_port": pub_port,
        "recv_port": recv_port,
        "persist_file": persist_file,
        "verbose": verbose or None,
    }
    with reported(_COMMAND):
        # Loads the server's half only now: --help does without it.
        server = mezzenger.MezzengerServer.from_config(config, **given)
        if check_config:
            show(server.config_file, server.settings, server.channels)
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


if __name__ == "__main__":
    main()
