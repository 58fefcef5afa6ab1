"""What ``channels:`` and the limits say, held by a real server: redelivery, times, room."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mezzenger import (
    ChannelSettings,
    ClientSettings,
    InvalidMessage,
    Message,
    Mezzenger,
    MezzengerServer,
    Rejected,
    ServerSettings,
    ServerUnreachable,
    Settings,
)
from mezzenger.testing import Link
from tests.integration.conftest import both_clients
from tests.integration.processes import wait_for

pytestmark = both_clients


@contextmanager
def served(channels: dict[str, dict[str, Any]], **server: Any) -> Iterator[tuple[MezzengerServer, Mezzenger]]:
    """Run a server with these settings, and a client of it."""
    settings = ServerSettings(pub_port=0, recv_port=0, **server)
    named = {pattern: ChannelSettings.model_validate(values) for pattern, values in channels.items()}
    with MezzengerServer(settings, named) as running, connected(running, send_timeout=5.0) as client:
        yield running, client


def connected(server: MezzengerServer, **settings: object) -> Mezzenger:
    """Return a client that tries once."""
    ports = {"send_port": server.recv_port, "sub_port": server.pub_port}
    return Mezzenger(settings=ClientSettings.model_validate({"connection_retries": 0} | ports | settings))


def collect(client: Mezzenger, name: str) -> list[int]:
    """Subscribe, and return the list to which payloads are added."""
    arrived: list[int] = []

    def callback(payload: int, _message: Message[int]) -> None:
        arrived.append(payload)

    client.subscribe(name, callback)
    return arrived


def test_attempts_by_name() -> None:
    """The first pattern that matches counts: two attempts for one name, three for another."""
    resend = {"initial": 0.01, "max": 0.02}
    channels = {
        "jobs.mail": {"resend": resend | {"max_attempts": 2}},
        "jobs.*": {"resend": resend | {"max_attempts": 3}},
    }
    with served(channels) as (_, client):

        def fail(payload: int, _message: Message[int]) -> None:
            raise ValueError(payload)

        for name in ("jobs.mail", "jobs.print"):
            client.subscribe(name, fail)
            client.send_message(name, 1, ack=1)
        wait_for(lambda: len(list(client.dead.list())) == 2)
        assert {letter.name: letter.attempts for letter in client.dead.list()} == {"jobs.mail": 2, "jobs.print": 3}


def test_a_blocked_publisher_goes_on() -> None:
    """With ``block`` a send returns when an ack has made room."""
    with served({"a": {"max_pending": 1, "overflow": "block"}}) as (server, client):
        client.send_message("a", 1, ack=1)
        sender = threading.Thread(target=client.send_message, args=("a", 2, 1))
        sender.start()
        sender.join(0.3)
        assert sender.is_alive()
        assert server.stats().pending == 1
        arrived = collect(client, "a")
        sender.join(5)
        assert not sender.is_alive()
        wait_for(lambda: arrived == [1, 2])


def test_a_blocked_publisher_gives_up() -> None:
    """After its own timeout it is told that there may be no room, and its connection stays."""
    with served({"a": {"max_pending": 1, "overflow": "block"}}) as (server, client):
        client.send_message("a", 1, ack=1)
        with connected(server, send_timeout=0.3) as impatient:
            with pytest.raises(ServerUnreachable, match=r"no room for the message yet \(overflow: block\)"):
                impatient.send_message("a", 2, ack=1)
            impatient.send_message("b", 3, ack=1)


def test_a_rejected_publisher_is_told_the_limit() -> None:
    """The error names the limit, its value and the setting; a batch counts message by message."""
    with served({"a": {"max_pending": 3}}) as (_, client):
        client.send_messages("a", [1, 2], ack=1)
        with pytest.raises(Rejected, match=r"2 more in one batch of 2 would be above the limit of 3 \(its") as caught:
            client.send_messages("a", [3, 4], ack=1)
        assert caught.value.reason == "limit"
        client.send_message("a", 3, ack=1)


def test_the_oldest_make_way() -> None:
    """With ``drop_oldest`` the last ones are there, the others are counted."""
    with served({"a": {"max_pending": 10, "overflow": "drop_oldest"}}) as (server, client):
        for number in range(50):
            client.send_message("a", number, ack=1)
        assert server.stats().dropped == {"overflow": 40}
        arrived = collect(client, "a")
        wait_for(lambda: arrived == list(range(40, 50)))


def test_the_oldest_become_dead_letters() -> None:
    """With ``dead_letter`` they are kept, in order, and come when they are resent."""
    with served({"a": {"max_pending": 10, "overflow": "dead_letter"}}) as (_, client):
        for number in range(15):
            client.send_message("a", number, ack=1)
        letters = list(client.dead.list("a"))
        assert [letter.reason for letter in letters] == ["overflow"] * 5
        arrived = collect(client, "a")
        wait_for(lambda: len(arrived) == 10)
        assert client.dead.resend(*(letter.number for letter in letters)) == 5
        wait_for(lambda: arrived == [*range(5, 15), *range(5)])


def test_times_by_name() -> None:
    """A ttl and a delay of the channel hold for messages that have none of their own."""
    with Link(Settings.model_validate({"channels": {"short": {"ttl": 20}, "late": {"delay": 30}}})) as server:
        client = server.client()
        client.send_message("short", 1, ack=1)
        client.send_message("short", 2, ack=1, ttl=60)
        client.send_message("late", 1, ack=1)
        client.send_message("late", 2, ack=1, delay=0)
        late = collect(client, "late")
        server.advance("29s")
        assert late == [2]
        assert server.stats().dropped == {"expired": 1}
        server.advance("1s")
        assert late == [2, 1]
        short = collect(client, "short")
        server.settle()
        assert short == [2]


@pytest.mark.parametrize(("ttl", "delay"), [(0.0, None), (-1.0, None), (float("nan"), None), (None, -1.0)])
def test_times_that_are_none(ttl: float | None, delay: float | None) -> None:
    """They are refused before anything is sent, as they are for messages that are not stored."""
    with served({}) as (_, client):
        with pytest.raises(InvalidMessage):
            client.send_message("a", 1, ack=1, ttl=ttl, delay=delay)
        with pytest.raises(InvalidMessage, match="ack=1"):
            client.send_message("a", 1, ttl=5)


def test_too_many_clients() -> None:
    """One above max_peers is told why it is not served, and is served when another one leaves."""
    with served({}, max_peers=2) as (server, _):
        second = connected(server)
        with pytest.raises(ServerUnreachable, match=r"server\.max_peers"):
            connected(server, send_timeout=0.5)
        second.stop()
        connected(server).stop()
