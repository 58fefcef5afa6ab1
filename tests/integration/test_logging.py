"""What the log tells, and what its handlers may do: send what they are told with the client that tells it."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mezzenger import (
    AsyncMezzenger,
    Message,
    Mezzenger,
    MezzengerError,
    MezzengerServer,
    Rejected,
    RemoteError,
    ServerSettings,
    State,
)
from tests.integration.conftest import Connect, both_clients
from tests.integration.processes import free_ports, server_process, wait_for

LOGGER = logging.getLogger("mezzenger.client")


class Sending(logging.Handler):
    """A handler that sends each record, and waits until the server has it, or until that takes too long."""

    def __init__(self, client: Mezzenger) -> None:
        super().__init__(logging.INFO)
        self._client = client
        self.outcomes: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Send it."""
        outcome = "sent"
        try:
            self._client.send_message("logs", record.getMessage(), ack=1)
        except MezzengerError as error:
            outcome = type(error).__name__
        self.outcomes.append((record.getMessage(), outcome))


@contextmanager
def handled_by(handler: logging.Handler) -> Iterator[None]:
    """Give the clients' log this handler until the end of the block."""
    level = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)


def subscribed(client: Mezzenger) -> None:
    """Have a callback thread that leads."""
    client.subscribe("a", lambda _payload, _message: None)


@pytest.mark.parametrize("prepare", [subscribed, lambda _client: None], ids=["callback thread", "I/O thread"])
def test_a_handler_may_send(tmp_path: Path, prepare: Callable[[Mezzenger], None]) -> None:
    """A handler that sends what it is told, and waits for the server, holds up nobody but who tells it."""
    ports = free_ports()
    with server_process(ports, tmp_path / "log") as server:
        client = Mezzenger(send_port=ports.send_port, sub_port=ports.sub_port, send_timeout=0.3, connection_retries=1)
        prepare(client)
        handler = Sending(client)
        with handled_by(handler):
            server.kill()
            wait_for(lambda: handler.outcomes, 20)
            text, outcome = handler.outcomes[0]
            assert text.startswith("the connection is lost")
            assert outcome == "ServerUnreachable"
            with server_process(ports, tmp_path / "log"):
                wait_for(lambda: ("connected", "sent") in handler.outcomes, 20)
                stopping = threading.Thread(target=client.stop, daemon=True)
                stopping.start()
                stopping.join(20)
                assert not stopping.is_alive()


class Broken(logging.Handler):
    """A handler that raises what it should not."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise."""
        raise OSError(f"no space left for {record.getMessage()!r}")


@both_clients
def test_a_handler_may_raise(server: MezzengerServer, connect: Connect) -> None:
    """What was not handled comes again, who asked is told, and the client lives, though nothing can be logged."""
    client = connect()
    attempts: list[tuple[object, int]] = []

    def fail(payload: object, message: Message[object]) -> None:
        attempts.append((payload, message.attempt))
        if message.attempt == 1:
            raise ValueError("not yet")

    client.subscribe("a", fail)
    with handled_by(Broken()):
        for payload in ("alone", "lone"):
            client.send_message("a", payload)
        client.send_messages("a", ["one", "of a batch"], 1)
        wait_for(lambda: (("one", 2) in attempts) and ("of a batch", 2) in attempts)
        with pytest.raises(RemoteError, match="not yet"):
            connect().request("a", "asked")
        wait_for(lambda: server.stats().pending == 0)
        assert client.stats.failed == 5
    assert client.state is State.OPEN


def test_a_client_that_is_refused_for_good_tells_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber that no server will have again says so: nobody may ever call anything that could raise."""
    ports = free_ports()
    server = MezzengerServer(ServerSettings(recv_port=ports.send_port, pub_port=ports.sub_port))
    server.start()
    with Mezzenger(send_port=ports.send_port, sub_port=ports.sub_port) as client:
        subscribed(client)
        server.stop()
        monkeypatch.setattr("mezzenger.broker.connections.PROTOCOL_VERSION", 99)  # of a server of another version
        with MezzengerServer(ServerSettings(recv_port=ports.send_port, pub_port=ports.sub_port)):
            wait_for(lambda: client.state == "closed", 20)
            wait_for(lambda: "this client is closed" in caplog.text, 20)
    assert "version" in caplog.text


def test_a_loop_over_messages_raises_when_it_is_refused_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """With asyncio whoever asks for messages is told likewise, and does not wait for ever."""
    ports = free_ports()
    server = MezzengerServer(ServerSettings(recv_port=ports.send_port, pub_port=ports.sub_port))
    server.start()

    async def work() -> None:
        async with AsyncMezzenger(send_port=ports.send_port, sub_port=ports.sub_port) as client:
            messages = client.messages("a")

            async def ask() -> None:
                async with messages:
                    is_asking.set()
                    async for message in messages:
                        raise AssertionError(message)

            is_asking = asyncio.Event()
            asking = asyncio.create_task(ask())
            await is_asking.wait()
            await asyncio.to_thread(server.stop)
            monkeypatch.setattr("mezzenger.broker.connections.PROTOCOL_VERSION", 99)
            with (
                MezzengerServer(ServerSettings(recv_port=ports.send_port, pub_port=ports.sub_port)),
                pytest.raises(Rejected, match="version"),
            ):
                await asyncio.wait_for(asking, 20)

    asyncio.run(work())
