"""Dead letters, time to live and delay, from a publisher's call to a subscriber's callback.

What takes its time happens in memory, with the pauses a server makes; what a killed server leaves, with a real one.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest

from mezzenger import Mezzenger, Settings
from mezzenger.client.failures import describe
from mezzenger.errors import InvalidMessage, InvalidName, NoDeadLetter
from mezzenger.message import Message
from mezzenger.protocol.commands import MAX_ERROR_CHARACTERS
from mezzenger.testing import Link
from tests.integration.conftest import both_clients
from tests.integration.processes import Ports, free_ports, patient, server_process, wait_for

pytestmark = both_clients

ATTEMPTS = 20
QUICK: dict[str, object] = {"resend": {"initial": 0.01, "max": 0.01}}


@pytest.fixture
def mezzenger_settings() -> Settings:
    """Nothing but that some messages are given up at once."""
    return Settings.model_validate({"channels": {"fragile": {"resend": {"max_attempts": 1}}}})


@pytest.fixture
def server(mezzenger_memory: Link) -> Link:
    """A server, in memory."""
    return mezzenger_memory


@pytest.fixture
def client(mezzenger_memory_client: Mezzenger) -> Mezzenger:
    """A client of it."""
    return mezzenger_memory_client


@contextmanager
def running_server(ports: Ports, folder: Path) -> Iterator[Popen[str]]:
    """Run a server with a file that outlives it."""
    with server_process(ports, folder / "log", persist_file=str(folder / "store.db"), **QUICK) as process:
        yield process


def refuse(payload: object, _msg: object) -> None:
    """Never handle anything."""
    raise ValueError(f"cannot handle {payload!r}")


def bury(server: Link, client: Mezzenger, name: str, *payloads: object) -> None:
    """Have messages become dead letters."""
    client.subscribe(name, refuse)
    for payload in payloads:
        client.send_message(name, payload, ack=1)
    server.advance("1h")
    client.unsubscribe(name)


class TestDeadLetters:
    def test_what_always_fails(self, server: Link, client: Mezzenger) -> None:
        """It is delivered as often as is allowed; then it is listed with its error and the end of its traceback."""
        attempts: list[int] = []

        def fail(payload: object, msg: Message[object]) -> None:
            attempts.append(msg.attempt)
            refuse(payload, msg)

        before = time.time()
        client.subscribe("orders", fail)
        client.send_message("orders", {"number": 7}, ack=1)
        server.advance("1h")
        assert server.stats().dead == 1
        assert attempts == list(range(1, ATTEMPTS + 1))
        (letter,) = client.dead.list()
        assert (letter.name, letter.messages, letter.attempts) == ("orders", 1, ATTEMPTS)
        assert (letter.reason, letter.payloads) == ("max_attempts", ())
        assert before <= letter.timestamp <= time.time()
        # All pauses have passed, and it was not given up at once after the last attempt.
        assert letter.buried - letter.timestamp == pytest.approx(1 + 2 + 4 + 8 + 16 + 32 + 13 * 60, abs=30)
        first, *others = letter.error.splitlines()
        assert first == "ValueError: cannot handle {'number': 7}"
        assert 'raise ValueError(f"cannot handle {payload!r}")' in others[-1] or "^^^" in others[-1]
        assert any(f'File "{__file__}"' in line and "in refuse" in line for line in others)
        assert all("dispatch.py" not in line for line in others)
        assert (server.stats().pending, server.stats().buried) == (0, 1)

    def test_shown(self, server: Link, client: Mezzenger) -> None:
        """With its bytes, and decoded as its subscribers would have seen it."""
        bury(server, client, "orders", {"number": 7})
        (letter,) = client.dead.list("orders")
        shown = client.dead.show(letter.number)
        (message,) = client.dead.messages(letter.number)
        (payload,) = shown.payloads
        assert b"number" in payload
        assert (message.payload, message.id, message.name) == ({"number": 7}, letter.id, "orders")

    def test_of_a_batch_what_failed(self, server: Link, client: Mezzenger) -> None:
        """Only the messages that no subscriber could handle are in it, and are handled when it is resent."""
        seen: list[object] = []
        is_better = threading.Event()

        def odd_only(payload: int, msg: Message[int]) -> None:
            if payload % 2 or is_better.is_set():
                seen.append(payload)
            else:
                refuse(payload, msg)

        client.subscribe("numbers", odd_only)
        client.send_messages("numbers", range(6), ack=1)
        server.advance("1h")
        (letter,) = client.dead.list()
        assert letter.messages == 3
        assert [message.payload for message in client.dead.messages(letter.number)] == [0, 2, 4]
        assert len(client.dead.show(letter.number).payloads) == 3
        assert seen == [1, 3, 5]
        is_better.set()
        assert client.dead.resend(letter.number) == 1
        server.settle()
        assert seen == [1, 3, 5, 0, 2, 4]
        assert list(client.dead.list()) == []

    def test_of_a_group(self, server: Link, client: Mezzenger) -> None:
        """It says which group's members could not handle it, and of which pattern that is."""
        client.subscribe("orders.*", refuse, group="packers")
        client.send_message("orders.tea", 1, ack=1)
        server.advance("1h")
        (letter,) = client.dead.list("orders.tea")
        assert (letter.name, letter.group, letter.pattern) == ("orders.tea", "packers", "orders.*")

    def test_many(self, server: Link, client: Mezzenger) -> None:
        """More than one answer holds are listed, in order; of another name there are none."""
        bury(server, client, "fragile", *range(250))
        numbers = [letter.number for letter in client.dead.list("fragile")]
        assert numbers == sorted(numbers)
        assert len(numbers) == 250
        assert list(client.dead.list("other")) == []
        assert client.dead.drop(*numbers[:240], numbers[0], 0, -1, 2**70) == 240
        assert client.dead.resend(*numbers) == 10
        assert (server.stats().dead, server.stats().pending) == (0, 10)

    @pytest.mark.parametrize("number", [0, -1, 1, 2**63, 2**64 - 1, 2**64])
    def test_none_with_this_number(self, client: Mezzenger, number: int) -> None:
        """To show one that is not there is an error, whatever its number; to resend or drop it is nothing."""
        with pytest.raises(NoDeadLetter, match=str(number)):
            client.dead.show(number)
        with pytest.raises(NoDeadLetter):
            client.dead.messages(number)
        assert client.dead.resend(number) == client.dead.drop(number) == 0

    def test_nothing_to_do(self, client: Mezzenger) -> None:
        """Without numbers nothing is asked, and a name that cannot be is an error."""
        assert client.dead.resend() == client.dead.drop() == 0
        with pytest.raises(InvalidName):
            list(client.dead.list("a|b"))

    def test_a_server_that_is_killed(self, tmp_path: Path) -> None:
        """All of that with a server that is killed after each step: it keeps every letter, and what becomes of it."""
        ports = free_ports()
        with running_server(ports, tmp_path) as process, patient(ports) as client:
            client.subscribe("orders", refuse)
            for payload in ("first", "second", "third"):
                client.send_message("orders", payload, ack=1)
            wait_for(lambda: len(list(client.dead.list("orders"))) == 3)
            client.unsubscribe("orders")
            process.kill()
            process.wait(10)
            with running_server(ports, tmp_path) as second_process:
                first, second, third = client.dead.list()
                assert [client.dead.messages(one.number)[0].payload for one in (first, second, third)] == [
                    "first",
                    "second",
                    "third",
                ]
                assert client.dead.show(first.number).error.startswith("ValueError: cannot handle 'first'\n")
                assert client.dead.resend(second.number) == 1
                assert client.dead.drop(first.number) == 1
                second_process.kill()
                second_process.wait(10)
            with running_server(ports, tmp_path):
                assert [letter.number for letter in client.dead.list()] == [third.number]
                with pytest.raises(NoDeadLetter):
                    client.dead.show(first.number)
                arrived: list[object] = []
                client.subscribe("orders", lambda payload, _msg: arrived.append(payload))
                wait_for(lambda: arrived == ["second"])
                assert client.dead.resend(second.number, third.number) == 1
                wait_for(lambda: arrived == ["second", "third"])


class TestErrors:
    def test_a_deep_traceback(self) -> None:
        """The text comes first, then as many of the last lines as there is room for."""

        def sink(depth: int) -> None:
            if depth:
                sink(depth - 1)
            raise KeyError("x" * 100)

        text = described(lambda: sink(200))
        assert len(text) <= MAX_ERROR_CHARACTERS
        assert text.startswith("KeyError: '" + "x" * 100 + "'\n")
        assert "in sink" in text.splitlines()[-2] or "in sink" in text.splitlines()[-3]

    def test_a_long_text(self) -> None:
        """It is cut, and leaves no room for the traceback."""

        def fail() -> None:
            raise KeyError("x" * 5000)

        text = described(fail)
        assert len(text) == MAX_ERROR_CHARACTERS
        assert "\n" not in text

    def test_no_text(self) -> None:
        """An error whose text cannot be told is told all the same."""

        class SpeechlessError(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        def fail() -> None:
            raise SpeechlessError

        assert described(fail).splitlines()[0] == "SpeechlessError: its text cannot be told"


def described(fail: Callable[[], None]) -> str:
    """Return what is told of an error."""
    try:
        fail()
    except Exception as error:  # noqa: BLE001  # as a callback's
        return describe(error)
    raise AssertionError("it did not fail")


class TestTime:
    def test_ttl(self, server: Link, client: Mezzenger) -> None:
        """What has expired is not delivered, and leaves the store by itself, soon after its time."""
        client.send_message("news", "old", ack=1, ttl=10)
        client.send_messages("news", ["older", "oldest"], ack=1, ttl=10)
        client.send_message("news", "new", ack=1, ttl=60)
        server.advance("9s")
        assert server.stats().dropped == {}
        server.advance("2s")
        assert server.stats().dropped == {"expired": 3}
        assert server.stats().pending == 1
        arrived: list[object] = []
        client.subscribe("news", lambda payload, _msg: arrived.append(payload))
        server.settle()
        assert arrived == ["new"]

    def test_delay(self, server: Link, client: Mezzenger) -> None:
        """It is confirmed at once, and delivered when it is due, in order of these times."""
        arrived: list[tuple[object, float]] = []
        start = server.clock.now
        client.subscribe("alarms", lambda payload, _msg: arrived.append((payload, server.clock.now - start)))
        client.send_message("alarms", "late", ack=1, delay=600)
        client.send_message("alarms", "early", ack=1, delay=np.float64(300))
        client.send_message("alarms", "never", ack=1, delay=1e9, ttl=1e9)
        assert server.stats().delayed == 3
        assert arrived == []
        server.advance("1h")
        assert [(payload, round(seconds, 3)) for payload, seconds in arrived] == [("early", 300), ("late", 600)]
        assert server.stats().pending == 0
        assert server.stats().delayed == 1

    def test_a_server_that_is_killed(self, tmp_path: Path) -> None:
        """What is delayed, or expires, does so at its time, though there was no server for a part of it."""
        ports = free_ports()
        with running_server(ports, tmp_path) as process, patient(ports) as client:
            client.send_message("alarms", "expired", ack=1, ttl=0.2)
            client.send_message("alarms", "due", ack=1, delay=0.2, ttl=60)
            client.send_message("alarms", "not due", ack=1, delay=600)
            process.kill()
            process.wait(10)
            threading.Event().wait(0.3)
            arrived: list[object] = []
            with running_server(ports, tmp_path):
                client.subscribe("alarms", lambda payload, _msg: arrived.append(payload))
                wait_for(lambda: arrived == ["due"])
                client.send_message("alarms", "last", ack=1)
                wait_for(lambda: arrived == ["due", "last"])

    @pytest.mark.parametrize("bad", [-1, 0, 1e10, math.nan, math.inf, -math.inf, True, "1", [1]], ids=repr)
    def test_a_bad_ttl(self, server: Link, client: Mezzenger, bad: float) -> None:
        """It is an error before anything is sent."""
        with pytest.raises(InvalidMessage, match="ttl must be more than 0"):
            client.send_message("news", 1, ack=1, ttl=bad)
        with pytest.raises(InvalidMessage, match="ttl must be more than 0"):
            client.send_messages("news", [1], ack=1, ttl=bad)
        assert server.stats().stored == 0

    @pytest.mark.parametrize("bad", [-1, -5e-324, 1e10, math.nan, math.inf, -math.inf, True, "1", [1]], ids=repr)
    def test_a_bad_delay(self, server: Link, client: Mezzenger, bad: float) -> None:
        """It is an error before anything is sent."""
        with pytest.raises(InvalidMessage, match="delay must be at least 0"):
            client.send_message("news", 1, ack=1, delay=bad)
        assert server.stats().stored == 0

    @pytest.mark.parametrize(("ttl", "delay"), [(1, None), (None, 1), (1, 0)])
    def test_what_is_not_stored(self, client: Mezzenger, ttl: float | None, delay: float | None) -> None:
        """A message that may be lost has neither."""
        with pytest.raises(InvalidMessage, match="send it with ack=1"):
            client.send_message("news", 1, ttl=ttl, delay=delay)
        client.send_message("news", 1, delay=0)
