"""``mezzenger group``: the groups that a server keeps."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mezzenger.cli.application import Config
from mezzenger.cli.connection import Retries, SendPort, Server, SubPort, Timeout, connected
from mezzenger.cli.exits import is_terminal
from mezzenger.group_status import GroupStatus


def ls(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each group.")] = False,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """List the groups, their members and what waits for them."""
    with connected(config, server, send_port, sub_port, timeout, retries) as client:
        groups = client.groups.list()
        if as_json:
            for group in groups:
                print(json.dumps(dataclasses.asdict(group), ensure_ascii=False))
        elif is_terminal(sys.stdout):
            _print_table(list(groups))
        else:
            for group in groups:
                print("\t".join(_cells(group)))


def drop(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Or pattern, as it was subscribed to.")],
    group: Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.")],
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Forget a group that has no members, and all that waits for it."""
    with connected(config, server, send_port, sub_port, timeout, retries) as client:
        print(f"dropped {client.groups.drop(name, group)} messages with the group")


def _cells(group: GroupStatus) -> list[str]:
    return [group.name, group.group, *map(str, (group.members, group.pending, group.in_hand, group.delayed))]


def _print_table(groups: Sequence[GroupStatus]) -> None:
    # Loaded for people only: scripts, which call this often, need not wait for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not groups:
        print("no groups")
        return
    table = Table("name", "group", "members", "pending", "in hand", "delayed")
    for group in groups:
        table.add_row(*(Text(cell) for cell in _cells(group)))
    Console().print(table)
