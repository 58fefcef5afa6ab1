"""``mezzenger group``: the groups that a server keeps."""

import dataclasses
from typing import Annotated, Final

import typer

from mezzenger.cli import listing
from mezzenger.cli.application import Config
from mezzenger.cli.connection import Retries, SendPort, Server, SubPort, Timeout, connected
from mezzenger.cli.listing import Listing
from mezzenger.group_status import GroupStatus

_LISTING: Final = Listing(("name", "group", "members", "pending", "in hand", "delayed"), nothing="no groups")


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
        listing.show(client.groups.list(), _LISTING, _cells, dataclasses.asdict, as_json=as_json)


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
