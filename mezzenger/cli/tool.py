"""``mezzenger``: sends and prints messages, and looks after what is kept, for people and scripts."""

import re
import sys
from collections.abc import Sequence
from typing import Final

from typer import Typer

from mezzenger.cli import bench, dead, group, retained
from mezzenger.cli.application import Version, new_application, run
from mezzenger.cli.asyncapi import asyncapi
from mezzenger.cli.pub import pub
from mezzenger.cli.request import request
from mezzenger.cli.store import store
from mezzenger.cli.sub import sub

_COMMAND: Final = "mezzenger"
_NEGATIVE: Final = re.compile(r"-\d+(\.\d+)?([eE][+-]?\d+)?")


def main() -> None:
    """Run the command ``mezzenger``."""
    application = new_application(is_group=True)
    application.callback()(_root)
    payload = _as_payload(sys.argv)
    application.command(short_help="Send a message, or many.", context_settings=payload)(pub)
    application.command(short_help="Print messages as they come.")(sub)
    application.command(short_help="Ask one subscriber, and print its answer.", context_settings=payload)(request)
    application.add_typer(_dead(), name="dead", short_help="List, show, resend or drop dead letters.")
    application.add_typer(_groups(), name="group", short_help="List or drop groups.")
    application.add_typer(_retained(), name="retained", short_help="List or drop the last messages that are kept.")
    application.add_typer(store, name="store", short_help="Check and repair a server's file.")
    application.command(short_help="Describe the channels of a module.")(asyncapi)
    application.add_typer(_bench(), name="bench", short_help="Measure how fast a running server is.")
    run(application, _COMMAND)


def _as_payload(arguments: Sequence[str]) -> dict[str, bool]:
    """Return settings with which a negative number is no option that is not known."""
    # Only if there is one: a misspelt option would be a payload, too.
    return {"ignore_unknown_options": any(map(_NEGATIVE.fullmatch, arguments))}


def _dead() -> Typer:
    group = new_application(is_group=True)
    group.callback()(_dead_letters)
    group.command(short_help="List them.")(dead.ls)
    group.command(short_help="Show one, with its payloads and its error.")(dead.show)
    group.command(short_help="Have them delivered after all.")(dead.resend)
    group.command(short_help="Forget them for good.")(dead.drop)
    return group


def _groups() -> Typer:
    application = new_application(is_group=True)
    application.callback()(_all_groups)
    application.command(short_help="List them.")(group.ls)
    application.command(short_help="Forget one, and what waits for it.")(group.drop)
    return application


def _retained() -> Typer:
    application = new_application(is_group=True)
    application.callback()(_last_messages)
    application.command(short_help="List them.")(retained.ls)
    application.command(short_help="Forget them.")(retained.drop)
    return application


def _bench() -> Typer:
    group = new_application(is_group=True)
    group.callback()(_benchmarks)
    group.command(short_help="Send as fast as it takes messages.")(bench.pub)
    group.command(short_help="Receive what bench pub sends.")(bench.sub)
    group.command(short_help="Measure the way there and back.")(bench.echo)
    group.command(short_help="Send messages that are stored and acknowledged.")(bench.durable)
    return group


def _benchmarks() -> None:
    """Measure how fast a running server is, with clients on this machine."""


def _all_groups() -> None:
    """Look after groups, which stay when their members have gone."""


def _dead_letters() -> None:
    """Look after dead letters: messages that no subscriber could handle in all their attempts."""


def _last_messages() -> None:
    """Look after last messages: of names that retain one, it is kept and given to each new subscriber at once."""


def _root(version: Version = False) -> None:
    """Send messages to a Mezzenger server, print what it hands out, and look after what it keeps.

    Exit codes: 0 fine, 1 failed, 2 bad argument or configuration, 4 persist file, 5 server unreachable;
    128 + the number of a signal that ended it before its work was done.
    """


if __name__ == "__main__":
    main()
