"""The options that say which server to talk to, and the settings made of them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer

from mezzenger.cli.exits import reported
from mezzenger.cli.logs import log_to_stderr
from mezzenger.client.sync import Mezzenger
from mezzenger.settings import ClientSettings, Settings

Server = Annotated[str | None, typer.Option("--server", metavar="ADDRESS", help="Host name or address of the server.")]
SendPort = Annotated[int | None, typer.Option("--send-port", metavar="PORT", help="The server's recv_port.")]
SubPort = Annotated[int | None, typer.Option("--sub-port", metavar="PORT", help="The server's pub_port.")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for an answer of the server.")
]
Retries = Annotated[
    int | None, typer.Option("--retries", metavar="NUMBER", help="Further attempts to reach it; 0 if not set anywhere.")
]

_COMMAND: Final = "mezzenger"
_RETRIES: Final = 0
"""Who typed a command wants to know at once that there is no server."""


def connection_settings(
    *,
    config: str | None,
    server: str | None,
    send_port: int | None,
    sub_port: int | None,
    timeout: str | None,
    retries: int | None,
) -> ClientSettings:
    """Return the settings of the client, after having its log set up.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    given = {
        "server_address": server,
        "send_port": send_port,
        "sub_port": sub_port,
        "send_timeout": timeout,
        "connection_retries": retries,
        "auto_start": True,
    }
    settings = Settings.load(config, client=given).client
    if "connection_retries" not in settings.model_fields_set:
        settings = settings.model_copy(update={"connection_retries": _RETRIES})
    level = logging.DEBUG if settings.verbose else logging.WARNING
    log_to_stderr(level, "mezzenger: %(levelname)s: %(message)s")
    return settings


@contextmanager
def connected(  # noqa: PLR0917  # the options of a connection
    config: str | None,
    server: str | None,
    send_port: int | None,
    sub_port: int | None,
    timeout: str | None,
    retries: int | None,
) -> Iterator[Mezzenger]:
    """Give the block a client, and report what goes wrong in it as ``mezzenger`` does."""
    with reported(_COMMAND):
        settings = connection_settings(
            config=config, server=server, send_port=send_port, sub_port=sub_port, timeout=timeout, retries=retries
        )
        with Mezzenger(settings=settings) as client:
            yield client
