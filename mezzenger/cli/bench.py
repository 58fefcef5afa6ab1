"""``mezzenger bench``: how fast a running server is, with the clients that this machine has."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from secrets import token_hex
from typing import Annotated, Any, Final

import typer

from mezzenger.cli.application import Config
from mezzenger.cli.connection import Retries, SendPort, Server, SubPort, Timeout, connection_settings
from mezzenger.cli.exits import ExitCode, complain, is_terminal, reported
from mezzenger.cli.signals import StopSignals
from mezzenger.client.sync import Mezzenger
from mezzenger.errors import MezzengerError
from mezzenger.message import Message, check_name

Count = Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Messages in all.")]
Size = Annotated[int, typer.Option(metavar="BYTES", min=0, help="Of each payload.")]
Name = Annotated[str, typer.Option(help="What the messages are called; with --names, .0, .1, ... are added.")]
Names = Annotated[int, typer.Option(metavar="NUMBER", min=1, help="How many names they have in turn.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

_COMMAND: Final = "mezzenger"
_NAME: Final = "mezzenger.bench"
_GLANCE: Final = 0.1
_CHUNK: Final = 512
_PATIENCE: Final = 30.0
"""Seconds without a message after which nothing is expected any more."""
_TTL: Final = 60.0
"""What an interrupted ``bench durable`` leaves in the server goes by itself."""

Show = Callable[[int], None]


class _Done:
    """What one thread has done; ``stop`` is set when it need not do more."""

    def __init__(self, stop: threading.Event) -> None:
        self.messages = 0
        self.stop = stop


Work = Callable[[_Done], None]


def pub(
    *,
    count: Count = 100_000,
    size: Size = 100,
    name: Name = _NAME,
    names: Names = 1,
    publishers: Annotated[int, typer.Option(min=1, help="Clients, each in a thread, that share the messages.")] = 1,
    at_once: Annotated[bool, typer.Option("--at-once", help="Use send_messages instead of send_message.")] = False,
    as_json: AsJson = False,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Send messages with ack=0 as fast as the server takes them; `bench sub` in another terminal counts them."""
    with _measuring(), ExitStack() as stack:
        all_names = _all_names(name, names)
        settings = connection_settings(
            config=config, server=server, send_port=send_port, sub_port=sub_port, timeout=timeout, retries=retries
        )
        payload = bytes(size)
        shares = [len(range(number, count, publishers)) for number in range(publishers)]

        def work(client: Mezzenger, share: int) -> Work:
            return lambda done: _publish(client, all_names, payload, share, done, at_once=at_once)

        clients = [stack.enter_context(Mezzenger(settings=settings)) for _ in shares]
        works = [work(client, share) for client, share in zip(clients, shares, strict=True)]
        seconds = _together(works, count, "sent")
        _print(_rates("sent", count, size, seconds), as_json)


def sub(
    *,
    count: Count = 100_000,
    name: Name = _NAME,
    names: Names = 1,
    subscribers: Annotated[int, typer.Option(min=1, help="Clients; each is to get all messages.")] = 1,
    as_json: AsJson = False,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Receive what `bench pub` sends; the time runs from the first message to the last.

    Ends when all have come, when none has come for 30 seconds after the first, or at Ctrl-C. Exit code 1: some are
    missing.
    """
    signals = StopSignals()
    with _measuring(), ExitStack() as stack:
        all_names = _all_names(name, names)
        settings = connection_settings(
            config=config, server=server, send_port=send_port, sub_port=sub_port, timeout=timeout, retries=retries
        )
        counters = [_Counter() for _ in range(subscribers)]
        for counter in counters:
            client = stack.enter_context(Mezzenger(settings=settings))
            for each in all_names:
                client.subscribe(each, counter)
        signals.postpone()
        if is_terminal(sys.stderr):
            print(f"subscribed; now: mezzenger bench pub --count {count}", file=sys.stderr)
        expected = count * subscribers
        with _bar("handled", expected) as show:
            while (handled := _handled(counters)) < expected and signals.received is None:
                show(handled)
                if handled and time.monotonic() > max(counter.last for counter in counters) + _PATIENCE:
                    break
                signals.wait(_GLANCE)
        handled = _handled(counters)
        # Without a message no time has run.
        last = max(counter.last for counter in counters)
        seconds = last - min((counter.first for counter in counters if counter.messages), default=last)
        size = sum(counter.bytes for counter in counters) // max(1, handled)
        _print(_rates("handled", handled, size, seconds) | {"missing": max(0, expected - handled)}, as_json)
        if handled < expected and signals.received is None:
            raise MezzengerError(f"{expected - handled:,} messages did not come")


def echo(
    *,
    count: Count = 5000,
    size: Size = 100,
    as_json: AsJson = False,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Send a message to a client that sends it back, one after the other; both are in this process."""
    with _measuring():
        settings = connection_settings(
            config=config, server=server, send_port=send_port, sub_port=sub_port, timeout=timeout, retries=retries
        )
        there, back = (f"{_NAME}.{token_hex(4)}.{way}" for way in ("there", "back"))
        took: list[float] = []
        arrived = threading.Event()
        with Mezzenger(settings=settings) as caller, Mezzenger(settings=settings) as answering:
            answering.subscribe(there, lambda payload, _message: answering.send_message(back, payload))
            caller.subscribe(back, lambda _payload, _message: arrived.set())
            payload = bytes(size)

            def work(done: _Done) -> None:
                while done.messages < count and not done.stop.is_set():
                    arrived.clear()
                    before = time.perf_counter()
                    caller.send_message(there, payload)
                    if not arrived.wait(_PATIENCE):
                        raise MezzengerError("a message did not come back")
                    took.append(time.perf_counter() - before)
                    done.messages += 1

            seconds = _together([work], count, "came back")
        _print({"messages": count, "seconds": seconds} | _percentiles(took), as_json)


def durable(
    *,
    count: Count = 50_000,
    size: Size = 100,
    single: Annotated[bool, typer.Option("--single", help="Wait for each to be stored before the next.")] = False,
    as_json: AsJson = False,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Send messages with ack=1 to a client in this process; all are stored, handled and acknowledged at the end.

    They are durable if the server has a persist_file.
    """
    with _measuring():
        settings = connection_settings(
            config=config, server=server, send_port=send_port, sub_port=sub_port, timeout=timeout, retries=retries
        )
        name = f"{_NAME}.{token_hex(4)}"
        payload, counter = bytes(size), _Counter()
        with Mezzenger(settings=settings) as publisher, Mezzenger(settings=settings) as subscriber:
            subscriber.subscribe(name, counter)

            def work(done: _Done) -> None:
                if single:
                    for _ in range(count):
                        if done.stop.is_set():
                            return
                        publisher.send_message(name, payload, 1, ttl=_TTL)
                        done.messages += 1
                else:
                    publisher.send_messages(name, _counted(payload, count, done), 1, ttl=_TTL)
                _wait_for(counter, count, done.stop)
                subscriber.flush()

            seconds = _together([work], count, "stored")
        _print(_rates("stored, handled and acknowledged", count, size, seconds), as_json)


# Measuring.


class _Counter:
    """A callback that counts."""

    def __init__(self) -> None:
        self.messages = 0
        self.bytes = 0
        self.first = self.last = time.monotonic()

    def __call__(self, payload: Any, _message: Message[Any]) -> None:  # noqa: ANN401  # anybody may send anything
        self.last = time.monotonic()
        if not self.messages:
            self.first = self.last
        self.messages += 1
        self.bytes += len(payload) if isinstance(payload, bytes) else 0


def _handled(counters: Sequence[_Counter]) -> int:
    return sum(counter.messages for counter in counters)


def _wait_for(counter: _Counter, count: int, stop: threading.Event) -> None:
    began = time.monotonic()
    while counter.messages < count and not stop.wait(0.001):
        if time.monotonic() > max(counter.last, began) + _PATIENCE:
            raise MezzengerError(f"{count - counter.messages:,} messages did not come")


def _publish(
    client: Mezzenger, names: Sequence[str], payload: bytes, count: int, done: _Done, *, at_once: bool
) -> None:
    while done.messages < count and not done.stop.is_set():
        # A chunk for each name in turn with --at-once, otherwise message by message.
        chunk = min(_CHUNK, count - done.messages)
        if at_once:
            client.send_messages(names[done.messages // _CHUNK % len(names)], [payload] * chunk)
        else:
            for number in range(done.messages, done.messages + chunk):
                client.send_message(names[number % len(names)], payload)
        done.messages += chunk
    client.flush()


def _counted(payload: bytes, count: int, done: _Done) -> Iterator[bytes]:
    for _ in range(count):
        if done.stop.is_set():
            return
        done.messages += 1
        yield payload


def _together(works: Sequence[Work], total: int, verb: str) -> float:
    """Do all works at the same time, each in a thread; return how many seconds they took."""
    stop = threading.Event()
    done = [_Done(stop) for _ in works]
    began = time.monotonic()
    with ThreadPoolExecutor(len(works)) as pool, _bar(verb, total) as show:
        futures = [pool.submit(work, one) for work, one in zip(works, done, strict=True)]
        try:
            while wait(futures, _GLANCE, FIRST_EXCEPTION).not_done:
                show(sum(one.messages for one in done))
                for future in futures:
                    if future.done():
                        future.result()
            for future in futures:
                future.result()
            seconds = time.monotonic() - began
        finally:
            stop.set()
    return seconds


def _all_names(name: str, count: int) -> list[str]:
    return [check_name(name)] if count == 1 else [check_name(f"{name}.{number}") for number in range(count)]


@contextmanager
def _measuring() -> Iterator[None]:
    """Report errors, and Ctrl-C, as the other commands do; as far as nobody else looks after that."""
    with reported(_COMMAND):
        try:
            yield
        except KeyboardInterrupt:
            complain(_COMMAND, "interrupted before all was measured")
            raise typer.Exit(ExitCode.SIGNAL + 2) from None


# Showing.


def _rates(verb: str, messages: int, size: int, seconds: float) -> dict[str, Any]:
    rate = messages / seconds if seconds > 0 else 0.0
    return {
        "what": verb,
        "messages": messages,
        "seconds": seconds,
        "size": size,
        "per_second": rate,
        "megabytes_per_second": rate * size / 1e6,
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    # Slow to load, and not needed by other commands.
    from statistics import quantiles  # noqa: PLC0415

    if len(seconds) < 2:  # noqa: PLR2004  # quantiles need two
        seconds = [*seconds, *seconds]
    cuts = quantiles(seconds, n=1000, method="inclusive")
    return {f"p{name}_us": cuts[index] * 1e6 for name, index in (("50", 499), ("99", 989), ("99.9", 998))}


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    width = max(map(len, result))
    for key, value in result.items():
        shown = value if isinstance(value, str) else f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        print(f"{key.replace('_', ' '):{width}}  {shown}")


@contextmanager
def _bar(verb: str, total: int) -> Iterator[Show]:
    """Show on stderr, if that is a terminal, how far it is."""
    if not is_terminal(sys.stderr):
        yield lambda _messages: None
        return
    # Slow to load, and not needed in scripts.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=total)
        yield lambda messages: progress.update(task, completed=messages)
