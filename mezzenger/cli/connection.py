"""The options that say which server to talk to, and the settings made of them."""

import logging
from typing import Annotated, Final

import typer

from mezzenger.cli.logs import log_to_stderr
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
