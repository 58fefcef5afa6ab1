"""Typed channels with a server: what is sent is checked, what arrives is checked, and neither stops anything."""

import queue
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TypeVar

import pytest
from pydantic import BaseModel, Field

from mezzenger import (
    Channel,
    InvalidName,
    Message,
    Mezzenger,
    MezzengerServer,
    PayloadInvalid,
    PayloadNotEncodable,
    ServerSettings,
)
from mezzenger.channel import CodecName
from mezzenger.testing import Link
from tests.integration.conftest import Connect, both_clients
from tests.integration.processes import wait_for

pytestmark = both_clients

SECONDS = 10.0

T = TypeVar("T")


class Job(BaseModel):
    number: int = Field(ge=0)
    due: datetime = datetime(2030, 1, 1, tzinfo=UTC)


JOBS = Channel("jobs", Job)


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server that gives up soon."""
    values = {"pub_port": 0, "recv_port": 0, "drain_timeout": 1.0, "resend": {"initial": 0.01, "max": 0.01}}
    with MezzengerServer(ServerSettings.model_validate(values)) as server:
        yield server


def collect(client: Mezzenger, channel: Channel[T]) -> "queue.SimpleQueue[Message[T]]":
    """Subscribe, and return what the messages are put into."""
    arrived: queue.SimpleQueue[Message[T]] = queue.SimpleQueue()
    client.subscribe(channel, lambda _payload, msg_obj: arrived.put(msg_obj))
    return arrived


@pytest.mark.parametrize("ack", [0, 1])
@pytest.mark.parametrize("codec", ["msgpack", "json", "pickle"])
def test_from_end_to_end(connect: Connect, codec: CodecName, ack: int) -> None:
    """What is sent through a channel arrives as what it was, one by one and many at once, whatever the codec."""
    channel = Channel("jobs", Job, codec=codec)
    arrived = collect(connect(), JOBS)
    publisher = connect(codec="raw")
    publisher.send_message(channel, Job(number=0), ack, headers={"a": "b"})
    for number in range(1, 100):
        publisher.send_message(channel, Job(number=number), ack)
    assert publisher.send_messages(channel, (Job(number=number) for number in range(100, 800)), ack) == 700
    messages = [arrived.get(timeout=SECONDS) for _ in range(800)]
    assert [message.payload for message in messages] == [Job(number=number) for number in range(800)]
    assert (messages[0].name, messages[0].ack, messages[0].headers) == ("jobs", ack, {"a": "b"})


def test_a_burst_of_both_kinds(connect: Connect) -> None:
    """With and without a channel, messages of one name keep their order, though they are written differently."""
    numbers = Channel("numbers", int)
    arrived = collect(connect(), numbers)
    publisher = connect()
    for number in range(0, 600, 3):
        publisher.send_message(numbers, number)
        publisher.send_message(numbers, number + 1)
        publisher.send_message("numbers", number + 2)
    assert [arrived.get(timeout=SECONDS).payload for _ in range(600)] == list(range(600))


def test_what_is_not_of_the_type_is_not_sent(server: MezzengerServer, connect: Connect) -> None:
    """The sender is told, and the server sees nothing of it; of many, those before it are sent."""
    client = connect()
    wrong = Job.model_construct(number=-1)
    for ack in (0, 1):
        with pytest.raises(PayloadInvalid, match=r"channel 'jobs': .*\nnumber\n.*greater than or equal to 0"):
            client.send_message(JOBS, wrong, ack)
    with pytest.raises(PayloadNotEncodable):
        client.send_message(Channel("numbers", int), 2**70, ack=1)
    client.flush()
    assert (server.stats().published, server.stats().stored) == (0, 0)
    with pytest.raises(PayloadInvalid):
        client.send_messages(JOBS, [*[Job(number=1)] * 700, wrong, Job(number=2)], ack=1)
    client.flush()
    assert server.stats().stored == 512


def test_what_is_not_of_the_type_becomes_a_dead_letter(mezzenger_memory: Link) -> None:
    """Its callback is not called; the dead letter tells what was wrong; what comes later is handled."""
    subscriber, publisher = mezzenger_memory.client(), mezzenger_memory.client(codec="json")
    arrived = collect(subscriber, JOBS)
    publisher.send_message("jobs", {"number": 1}, ack=1)
    publisher.send_messages("jobs", [{"number": 2}, {"number": -3}, {"number": 4}], ack=1)
    publisher.send_message("jobs", "no job", ack=0)
    publisher.send_message("jobs", {"number": 5}, ack=1)
    mezzenger_memory.settle()
    assert sorted(arrived.get_nowait().payload.number for _ in range(4)) == [1, 2, 4, 5]
    mezzenger_memory.advance("1h")
    (letter,) = subscriber.dead.list()
    assert letter.error.splitlines() == [
        "PayloadInvalid: channel 'jobs': 1 validation error for Job",
        "number",
        "  Input should be greater than or equal to 0 [type=greater_than_equal, input_value=-3, input_type=int]",
    ]
    assert subscriber.dead.show(letter.number).payloads == (b'{"number":-3}',)
    assert arrived.empty()


def test_subscribing(server: MezzengerServer, connect: Connect) -> None:
    """A channel ends a subscription that was made by name, and the other way round."""
    client = connect()
    for name in (JOBS, "jobs"):
        client.subscribe("jobs", lambda _payload, _msg: None)
        client.unsubscribe(name)
        client.subscribe(JOBS, lambda _payload, _msg: None)
        client.unsubscribe(name)
    wait_for(lambda: server.stats().names == 0)


def test_subscribing_with_wildcards(connect: Connect) -> None:
    """A pattern's messages are of the pattern's type, in a group as well."""
    subscriber, publisher = connect(), connect()
    arrived = collect(subscriber, Channel("jobs.*", Job))
    grouped: queue.SimpleQueue[Job] = queue.SimpleQueue()
    subscriber.subscribe(Channel("jobs.>", Job), lambda payload, _msg: grouped.put(payload), group="workers")
    publisher.send_message(Channel("jobs.new", Job), Job(number=1), ack=1)
    publisher.send_message("jobs.old", {"number": -1})
    publisher.send_message("jobs.old", {"number": 2})
    messages = [arrived.get(timeout=SECONDS) for _ in range(2)]
    assert [(message.name, message.payload) for message in messages] == [
        ("jobs.new", Job(number=1)),
        ("jobs.old", Job(number=2)),
    ]
    assert [grouped.get(timeout=SECONDS).number for _ in range(2)] == [1, 2]


def test_sending_to_wildcards(connect: Connect) -> None:
    """A channel that is for subscribing only is refused by what sends."""
    client = connect()
    every = Channel("jobs.*", Job)
    with pytest.raises(InvalidName, match="wildcard"):
        client.send_message(every, Job(number=1))
    with pytest.raises(InvalidName, match="wildcard"):
        client.send_messages(every, [])
