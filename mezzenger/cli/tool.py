"""``mezzenger``: sends and prints messages, for people and scripts."""

from typing import Final

from mezzenger.cli.application import Version, new_application
from mezzenger.cli.pub import pub
from mezzenger.cli.store import store
from mezzenger.cli.sub import sub

_COMMAND: Final = "mezzenger"


def main() -> None:
    """Run the command ``mezzenger``."""
    application = new_application(is_group=True)
    application.callback()(_root)
    application.command(short_help="Send a message, or many.")(pub)
    application.command(short_help="Print messages as they come.")(sub)
    application.add_typer(store, name="store", short_help="Check and repair a server's file.")
    application(prog_name=_COMMAND)


def _root(version: Version = False) -> None:
    """Send messages to a Mezzenger server, and print what it hands out.

    Exit codes: 0 fine, 1 failed, 2 bad argument or configuration, 4 persist file, 5 server unreachable.
    """


if __name__ == "__main__":
    main()
