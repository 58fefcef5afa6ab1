"""``mezzenger sub``."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from mezzenger.cli.application import Config
from mezzenger.cli.connection import Retries, SendPort, Server, SubPort, Timeout, connection_settings
from mezzenger.cli.exits import BadInput, CannotPrint, is_terminal, reported
from mezzenger.cli.logs import NotPrinted
from mezzenger.cli.payloads import json_of, open_stdout, repr_of, text_of
from mezzenger.cli.signals import StopSignals
from mezzenger.client.memberships import DEFAULT_PREFETCH
from mezzenger.client.sync import Mezzenger
from mezzenger.message import Message
from mezzenger.patterns import check_pattern, is_wild
from mezzenger.protocol.commands import MAX_PREFETCH
from mezzenger.protocol.states import State
from mezzenger.queues import check_group

_COMMAND: Final = "mezzenger"
_GLANCE: Final = 0.5
"""Seconds between two looks at whether the client still works."""


def sub(
    *,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Of the messages, or a pattern: 'orders.*'.")],
    group: Annotated[str | None, typer.Option(metavar="NAME", help="Be a member of this group.")] = None,
    prefetch: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=1, max=MAX_PREFETCH, help="Messages to take at once, as a member."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each message.")] = False,
    count: Annotated[int | None, typer.Option(metavar="NUMBER", min=1, help="End after so many messages.")] = None,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Print the messages of names or patterns, each on a line, until Ctrl-C, SIGTERM, or nobody reads them any more.

    All of these end with exit code 0. A message with ack=1 is acknowledged once it was printed. With --group each
    message goes to one of the group's members; the group stays, and collects those with ack=1.
    """
    signals = StopSignals()
    with reported(_COMMAND):
        names = [check_pattern(name) for name in dict.fromkeys(names)]
        if prefetch is not None and group is None:
            raise BadInput("--prefetch is for members of a group; give --group NAME, too")
        if group is not None:
            check_group(group)
        settings = connection_settings(
            config=config, server=server, send_port=send_port, sub_port=sub_port, timeout=timeout, retries=retries
        )
        open_stdout(in_utf8=as_json)
        printer = _Printer(_as_json if as_json else _as_text(_may_differ(names)), count, signals.wake)
        try:
            with Mezzenger(settings=settings) as client:
                for name in names:
                    client.subscribe(name, printer, group=group, prefetch=prefetch or DEFAULT_PREFETCH)
                _print_until_stopped(client, names, printer, signals)
        except KeyboardInterrupt:
            pass
        if printer.error is not None and not printer.error.is_unread:
            raise printer.error


class _Printer:
    """The callback. It declines, and so leaves to others, whatever comes after it is over."""

    def __init__(self, form: Callable[[Message[Any]], str], limit: int | None, on_over: Callable[[], None]) -> None:
        self._form = form
        self._left = limit
        self._on_over = on_over
        self.is_over = False
        self.error: CannotPrint | None = None

    def __call__(self, _payload: object, message: Message[Any]) -> None:
        """Print a message."""
        if self.is_over:
            raise NotPrinted
        try:
            sys.stdout.write(self._form(message) + "\n")
            sys.stdout.flush()
        except CannotPrint as error:
            self.error = error
            self._end()
            raise NotPrinted from None
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._end()

    def _end(self) -> None:
        self.is_over = True
        self._on_over()


def _print_until_stopped(client: Mezzenger, names: list[str], printer: _Printer, signals: StopSignals) -> None:
    signals.postpone()
    if is_terminal(sys.stderr):
        print(f"subscribed to {', '.join(names)}", file=sys.stderr)
    is_unread = False
    while not printer.is_over and signals.received is None and not is_unread:
        is_unread = signals.wait(_GLANCE, sys.stdout.fileno())
        if client.state is State.CLOSED:
            client.flush()  # raises what closed it


def _may_differ(names: list[str]) -> bool:
    """Whether messages of several names may come."""
    return len(names) > 1 or is_wild(names[0])


def _as_text(with_name: bool) -> Callable[[Message[Any]], str]:
    is_coloured = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")

    def form(message: Message[Any]) -> str:
        text = text_of(message.payload)
        if not with_name:
            return text
        name = typer.style(message.name, fg=typer.colors.CYAN) if is_coloured else message.name
        return f"{name}: {text}"

    return form


def _as_json(message: Message[Any]) -> str:
    rest = {
        "ack": message.ack,
        "timestamp": message.timestamp,
        "id": message.id,
        "retained": message.retained,
        "attempt": message.attempt,
        "headers": dict(message.headers),
    }
    try:
        return json_of({"name": message.name, "payload": message.payload} | rest)
    except (TypeError, ValueError, RecursionError):
        return json_of({"name": message.name, "payload_repr": repr_of(message.payload)} | rest)
