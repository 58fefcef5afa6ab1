"""``mezzenger retained``: the last messages that are kept for subscribers to come."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from mezzenger.cli.application import Config
from mezzenger.cli.connection import Retries, SendPort, Server, SubPort, Timeout, connected
from mezzenger.cli.exits import BadInput, is_terminal
from mezzenger.cli.times import local_time
from mezzenger.patterns import check_pattern, matches
from mezzenger.retained_message import RetainedMessage

_AT_ONCE: Final = 1000

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
        if as_json:
            for message in messages:
                print(json.dumps(dataclasses.asdict(message), ensure_ascii=False))
        elif is_terminal(sys.stdout):
            _print_table(list(messages))
        else:
            for message in messages:
                print("\t".join(_cells(message)))


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


def _print_table(messages: Sequence[RetainedMessage]) -> None:
    # Loaded for people only: scripts, which call this often, need not wait for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not messages:
        print("no message is kept")
        return
    table = Table("name", "id", "ack", "bytes", "created", "expires")
    for message in messages:
        table.add_row(*map(Text, _cells(message)))
    Console().print(table)
