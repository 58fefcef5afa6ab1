"""``mezzenger pub``."""

import json
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import typer
from pydantic import TypeAdapter, ValidationError

from mezzenger.cli.application import Config
from mezzenger.cli.connection import Retries, SendPort, Server, SubPort, Timeout, connection_settings
from mezzenger.cli.exits import BadInput, ExitCode, Incomplete, complain, reported
from mezzenger.cli.lines import read_all, read_lines
from mezzenger.cli.payloads import headers_of, parsed, stdin
from mezzenger.cli.progress import Sent, progress
from mezzenger.cli.signals import StopSignals
from mezzenger.client.sync import Mezzenger
from mezzenger.errors import MezzengerError
from mezzenger.message import check_name
from mezzenger.units import Duration

_COMMAND: Final = "mezzenger"


class _Stationery(NamedTuple):
    """What all messages of one command have in common."""

    name: str
    ack: int
    headers: dict[str, str]
    ttl: float | None
    delay: float | None
    as_json: bool


def pub(
    *,
    name: Annotated[str, typer.Argument(help="What the message is called.")],
    payload: Annotated[
        str | None,
        typer.Argument(help="Text to send, behind -- if it begins with - and is no number; without it, stdin is sent."),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Send each line of stdin, as it comes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Read the payload, or each line, as JSON.")] = False,
    ack: Annotated[bool, typer.Option("--ack", help="Have the server keep it until it was acknowledged.")] = False,
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="With --ack: how long it is of use, as 30s.")
    ] = None,
    delay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="With --ack: how long it is kept before it is delivered.")
    ] = None,
    header: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be given repeatedly.")] = None,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Send a message: PAYLOAD, or all of stdin, or with --lines each line of stdin.

    Stdin is read as UTF-8; bytes that are none arrive as U+FFFD, a question mark in a diamond.

    With --lines, Ctrl-C and SIGTERM end the input: what was read is sent, and the exit code is 0.
    """
    signals = StopSignals()
    with reported(_COMMAND):
        if lines and payload is not None:
            raise BadInput("PAYLOAD and --lines exclude each other: --lines reads stdin")
        moments = (_seconds("--ttl", ttl), _seconds("--delay", delay))
        stationery = _Stationery(check_name(name), int(ack), headers_of(header or []), *moments, as_json)
        ready = None if payload is None else [parsed(payload, "PAYLOAD", as_json=as_json)]
        settings = connection_settings(
            config=config, server=server, send_port=send_port, sub_port=sub_port, timeout=timeout, retries=retries
        )
        try:
            with Mezzenger(settings=settings) as client, progress() as sent:
                if lines:
                    signals.postpone()
                    _send_lines(client, stationery, sent, signals)
                else:
                    ready = ready or [parsed(read_all(stdin(), signals.wait_for_input), "stdin", as_json=as_json)]
                    _send(client, stationery, sent, ready)
                client.flush()
        except KeyboardInterrupt:
            complain(_COMMAND, "interrupted before the message was sent for certain")
            raise typer.Exit(ExitCode.SIGNAL + (signals.received or 0)) from None


def _seconds(option: str, text: str | None) -> float | None:
    try:
        return None if text is None else TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInput(f"{option} {text!r}: {reason}") from None


def _send(client: Mezzenger, stationery: _Stationery, sent: Sent, payloads: Sequence[object]) -> None:
    one = stationery
    sent.add(
        client.send_messages(one.name, payloads, one.ack, headers=one.headers or None, ttl=one.ttl, delay=one.delay)
    )


def _send_lines(client: Mezzenger, stationery: _Stationery, sent: Sent, signals: StopSignals) -> None:
    number = 0
    try:
        for lines in read_lines(stdin(), signals.wait_for_input):
            payloads, problem = _parsed_lines(lines, stationery, number)
            _send(client, stationery, sent, payloads)
            if problem is not None:
                client.flush()
                raise problem
            number += len(lines)
    except MezzengerError as error:
        if sent.messages and not isinstance(error, BadInput):
            raise Incomplete(f"{error}; at least {sent.messages} lines were sent before") from error
        raise


def _parsed_lines(lines: list[str], stationery: _Stationery, before: int) -> tuple[Sequence[object], BadInput | None]:
    """Return the payloads up to the first line that is wrong, and what is wrong there."""
    if not stationery.as_json:
        return lines, None
    payloads: list[object] = []
    for number, line in enumerate(lines, before + 1):
        try:
            payloads.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            return payloads, BadInput(f"stdin, line {number}: not valid JSON: {error}")
    return payloads, None
