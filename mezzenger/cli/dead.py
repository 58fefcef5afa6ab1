"""``mezzenger dead``: the messages that no subscriber could handle."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import typer

from mezzenger.cli import listing
from mezzenger.cli.application import Config
from mezzenger.cli.connection import Retries, SendPort, Server, SubPort, Timeout, connected
from mezzenger.cli.exits import BadInput
from mezzenger.cli.listing import Listing
from mezzenger.cli.payloads import json_of, json_or_repr, open_stdout, text_of
from mezzenger.cli.times import local_time
from mezzenger.client.sync import Mezzenger
from mezzenger.dead_letter import DeadLetter
from mezzenger.errors import PayloadError

_AT_ONCE: Final = 1000
_LISTING: Final = Listing(
    ("number", "name", "group", "messages", "attempts", "since", "reason", "error"), nothing="no dead letters"
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for each dead letter.")]
Numbers = Annotated[list[int] | None, typer.Argument(metavar="NUMBER", min=1, help="As `mezzenger dead ls` shows it.")]
All = Annotated[bool, typer.Option("--all", help="All of them, or all of one name.")]
Name = Annotated[str | None, typer.Option("--name", help="With --all: only of this name.")]


def ls(
    *,
    name: Annotated[str | None, typer.Argument(help="Only of this name.")] = None,
    as_json: Json = False,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """List the dead letters, oldest first."""
    with connected(config, server, send_port, sub_port, timeout, retries) as client:
        listing.show(client.dead.list(name), _LISTING, _cells, _fields, as_json=as_json)


def show(
    *,
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="As `mezzenger dead ls` shows it.")],
    as_json: Json = False,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Show a dead letter: its payloads, when and how often it was tried, and the error of the last attempt."""
    with connected(config, server, send_port, sub_port, timeout, retries) as client:
        open_stdout(in_utf8=as_json)
        letter = client.dead.show(number)
        payloads = _payloads(client, letter)
        if as_json:
            print(json_of(_fields(letter) | {"payloads": list(map(json_or_repr, payloads))}))
            return
        for label, text in _facts(letter):
            print(f"{label + ':':<11} {text}")
        print("error:")
        for line in letter.error.splitlines():
            print(f"  {line}")
        for payload in payloads:
            print(f"payload:    {text_of(payload)}")


def resend(
    *,
    numbers: Numbers = None,
    is_all: All = False,
    name: Name = None,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Have dead letters delivered after all, as if they were sent anew."""
    with connected(config, server, send_port, sub_port, timeout, retries) as client:
        done = sum(client.dead.resend(*some) for some in _wanted(client, numbers, name, is_all=is_all))
        _report(done, "resent", numbers)


def drop(
    *,
    numbers: Numbers = None,
    is_all: All = False,
    name: Name = None,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Forget dead letters for good."""
    with connected(config, server, send_port, sub_port, timeout, retries) as client:
        done = sum(client.dead.drop(*some) for some in _wanted(client, numbers, name, is_all=is_all))
        _report(done, "dropped", numbers)


def _wanted(
    client: Mezzenger, numbers: Sequence[int] | None, name: str | None, *, is_all: bool
) -> Iterator[Sequence[int]]:
    """Yield the numbers that are meant, some at a time."""
    if is_all == bool(numbers) or (name is not None and not is_all):
        raise BadInput("give either the numbers of dead letters, or --all, to which --name NAME may be added")
    if numbers:
        yield numbers
        return
    # What is there now, not what comes to be dead while it is resent.
    all_numbers = [letter.number for letter in client.dead.list(name)]
    for start in range(0, len(all_numbers), _AT_ONCE):
        yield all_numbers[start : start + _AT_ONCE]


def _report(done: int, what: str, numbers: Sequence[int] | None) -> None:
    print(f"{what} {done}")
    missing = len(set(numbers or [])) - done
    if missing > 0:
        raise BadInput(f"{missing} of the numbers are not those of dead letters; `mezzenger dead ls` shows which are")


def _payloads(client: Mezzenger, letter: DeadLetter) -> list[object]:
    """Return the payloads; the bytes as text, and why, if they cannot be decoded here."""
    try:
        return [message.payload for message in client.dead.messages(letter.number)]
    except PayloadError as error:
        return [f"{payload!r} ({error})" for payload in letter.payloads]


def _cells(letter: DeadLetter) -> list[str]:
    first_line = (letter.error.splitlines() or [""])[0]
    counts = [str(letter.messages), str(letter.attempts)]
    return [
        str(letter.number),
        letter.name,
        letter.group or "-",
        *counts,
        local_time(letter.buried),
        letter.reason,
        first_line,
    ]


def _facts(letter: DeadLetter) -> list[tuple[str, str]]:
    return [
        ("number", str(letter.number)),
        ("name", letter.name),
        ("group", "-" if letter.group is None else f"{letter.group} of {letter.pattern}"),
        ("id", letter.id),
        ("messages", str(letter.messages)),
        ("size", f"{letter.size} bytes"),
        ("attempts", str(letter.attempts)),
        ("created", local_time(letter.timestamp)),
        ("dead since", local_time(letter.buried)),
        ("reason", letter.reason),
    ]


def _fields(letter: DeadLetter) -> dict[str, object]:
    return {**dataclasses.asdict(letter), "payloads": None}
