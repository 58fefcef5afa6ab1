"""``mezzenger retained``: the last messages that are kept for subscribers to come."""

import dataclasses
from typing import Annotated, Final

import typer

from mezzenger.cli import listing
from mezzenger.cli.application import Config
from mezzenger.cli.connection import Retries, SendPort, Server, SubPort, Timeout, connected
from mezzenger.cli.exits import BadInput
from mezzenger.cli.listing import Listing
from mezzenger.cli.times import local_time
from mezzenger.patterns import check_pattern, matches
from mezzenger.retained_message import RetainedMessage

_AT_ONCE: Final = 1000
_LISTING: Final = Listing(("name", "id", "ack", "bytes", "created", "expires"), nothing="no message is kept")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for each message.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="As `mezzenger retained ls` shows it.")]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


def ls(
    *,
    pattern: Annotated[str | None, typer.Argument(help="Only of names that match: * is one token, > the rest.")] = None,
    as_json: Json = False,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """List the last messages, in order of their names; their payloads are for subscribers."""
    with connected(config, server, send_port, sub_port, timeout, retries) as client:
        if pattern is not None:
            check_pattern(pattern)
        messages = (one for one in client.retained.list() if pattern is None or matches(pattern, one.name))
        listing.show(messages, _LISTING, _cells, dataclasses.asdict, as_json=as_json)


def drop(
    *,
    names: Names = None,
    is_all: All = False,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Forget last messages; the next message of the name is kept again."""
    with connected(config, server, send_port, sub_port, timeout, retries) as client:
        if is_all == bool(names):
            raise BadInput("give either names, or --all")
        wanted = names or [message.name for message in client.retained.list()]
        starts = range(0, len(wanted), _AT_ONCE)
        done = sum(client.retained.drop(*wanted[start : start + _AT_ONCE]) for start in starts)
        print(f"dropped {done}")
        missing = len(set(names or [])) - done
        if missing > 0:
            raise BadInput(f"{missing} of the names have none; `mezzenger retained ls` shows which have one")


def _cells(message: RetainedMessage) -> list[str]:
    expires = "" if message.expires is None else local_time(message.expires)
    return [message.name, message.id, str(message.ack), str(message.size), local_time(message.timestamp), expires]
