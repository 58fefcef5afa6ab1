"""What the loop does with changes and questions when the store is full or broken, and when it stops."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pytest

from mezzenger.broker.core import Broker
from mezzenger.broker.effects import Change, Load, Offered, Settle, Store
from mezzenger.broker.restored import Stored
from mezzenger.errors import StorageError, StorageFull
from mezzenger.protocol.commands import Confirm, Deliver, Refuse, ServerCommand, Welcome
from mezzenger.protocol.wire import decode_server_command
from mezzenger.server import loop as loop_module
from mezzenger.server import storing
from mezzenger.server.loop import ServerLoop
from mezzenger.storage.memory import MemoryStorage
from mezzenger.transport.sockets import Sent, ServerSocketOptions, bind_server
from tests.broker.broker_driver import A, B, Driver, client_of, link_token

SETTLE: Final = Settle(1, "a", 1, 10)


class BrokenStorage(MemoryStorage):
    """Keeps nothing, notes what it is asked for, and fails as it is told."""

    def __init__(self, *failures: StorageError) -> None:
        super().__init__()
        self.failures = list(failures)
        self.done: list[Change | Load] = []
        self.seconds = 0.0
        """How long a commit takes."""
        self.is_unreadable = False
        self.under_way = 0
        self.commits: list[int] = []
        """How many were under way when each began, this one included."""

    async def commit(self, changes: Sequence[Change]) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.under_way += 1
        self.commits.append(self.under_way)
        if self.seconds:
            await asyncio.sleep(self.seconds)
        self.under_way -= 1
        self.done.extend(changes)

    async def read(self, load: Load) -> Sequence[Stored]:
        if self.is_unreadable:
            raise RuntimeError("nobody has foreseen this")
        self.done.append(load)
        return []


class Harness:
    """A loop with real sockets that nobody connects to; what it sends is noted instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *failures: StorageError, **options: Any) -> None:
        self.sent: list[ServerCommand] = []
        self.result = Sent.DONE
        monkeypatch.setattr(loop_module, "send", self._send)
        monkeypatch.setattr(storing, "_FULL_SECONDS", 0.01)
        self._driver = Driver(**options)
        self.storage = BrokenStorage(*failures)
        self.loop = ServerLoop(
            Broker(self._driver.options, lambda: 0.5),
            self.storage,
            bind_server(ServerSocketOptions("127.0.0.1", 0, 0, 1000, 10, 10, 1.0, 1.0)),
            send_queue=3,
            send_queue_size=1000,
            drain_timeout=1.0,
            verbose=False,
        )
        # The driver plays the peer A; whatever it says goes to the loop's broker.
        self._driver.broker = self.loop._broker

    def _send(self, _socket: object, frames: list[bytes]) -> Sent:
        if self.result is Sent.DONE:
            self.sent.append(decode_server_command(frames[1]))
        return self.result

    def publish(self) -> None:
        """Let A say Hello and publish."""
        self._driver.hello(A)
        self._driver.publish(A, 1, client=client_of(A))
        self.loop._perform()

    def subscribe_and_publish(self, count: int = 1) -> None:
        """Let A say Hello, be linked, subscribe and publish so many messages."""
        self._driver.hello(A)
        self.loop._broker.surfaced(link_token(A), self.loop._now())
        self._driver.subscribe(A, "a")
        for sequence in range(1, count + 1):
            self._driver.publish(A, sequence, client=client_of(A))
        self.loop._perform()

    async def serve(self, *, seconds: float = 0.2) -> None:
        """Run the loop for a while, then stop it without waiting."""
        asyncio.get_running_loop().call_later(seconds, self.stop)
        await self.loop.run(lambda: None)

    def stop(self) -> None:
        """Stop the loop, in a hurry."""
        self.loop.interrupt()
        self.loop.interrupt()


def run(harness: Harness, *, begin: Any = None, seconds: float = 0.2) -> None:
    """Run a loop for a while."""

    async def main() -> None:
        if begin is not None:
            asyncio.get_running_loop().call_soon(begin)
        await harness.serve(seconds=seconds)

    asyncio.run(main())


def test_what_the_disk_could_not_store_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And confirmed neither before nor after."""
    harness = Harness(monkeypatch, StorageError("the disk has failed"))
    run(harness, begin=harness.publish)
    answers = [command for command in harness.sent if isinstance(command, Confirm | Refuse)]
    assert answers == [Refuse(1, "storage", "the disk has failed")]


def test_what_is_stored_is_confirmed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a publish when nothing fails."""
    harness = Harness(monkeypatch)
    run(harness, begin=harness.publish)
    assert [command for command in harness.sent if isinstance(command, Confirm | Refuse)] == [Confirm([1])]
    assert any(isinstance(command, Welcome) for command in harness.sent)
    assert any(isinstance(change, Store) for change in harness.storage.done)


def test_a_lone_message_is_handed_to_the_store_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the turn of the loop in which it came."""
    harness = Harness(monkeypatch)
    handed_over = []

    def begin() -> None:
        harness.publish()
        handed_over.extend(harness.storage.done)

    run(harness, begin=begin)
    assert any(isinstance(change, Store) for change in handed_over)


def test_what_comes_while_the_store_works_is_stored_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it together, when the commit is done that is under way."""
    harness = Harness(monkeypatch)
    harness.storage.seconds = 0.02
    more = [Settle(number, "a", 1, 10) for number in (1, 2, 3)]
    done: list[Change | Load] = []

    def begin() -> None:
        harness.publish()
        for settle in more:
            harness.loop._storing.add(settle)
            harness.loop._perform()
        asyncio.get_running_loop().call_later(0.5, lambda: done.extend(harness.storage.done))

    run(harness, begin=begin, seconds=1.0)
    assert harness.storage.commits[:2] == [1, 1]
    assert done[-3:] == more


def test_a_fault_holds_up_nobody(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What comes behind a frame on which the broker fails is taken in the same turn; one traceback tells of many."""
    harness = Harness(monkeypatch)
    arrived = [(A, [b"1"]), (A, [b"2"]), (B, [b"3"])]
    taken: list[bytes] = []

    def receive(peer: bytes, frames: list[bytes], _now: float) -> bool:
        if peer == A:
            raise RuntimeError("nobody has foreseen this")
        taken.extend(frames)
        return True

    async def main() -> None:
        router = harness.loop._sockets.router
        monkeypatch.setattr(harness.loop._broker, "receive", receive)
        monkeypatch.setattr(harness.loop._readable, "now", lambda: [router] if arrived else [])
        monkeypatch.setattr(loop_module, "receive_from_peer", lambda _: arrived.pop(0))
        harness.loop._pump()

    asyncio.run(main())
    assert taken == [b"3"]
    assert harness.loop.stats().malformed == {"failed": 2}
    assert caplog.text.count("RuntimeError: nobody has foreseen this") == 1
    harness.loop._report()
    assert "by reason: {'failed': 2}" in caplog.text
    harness.loop._sockets.close()


def test_a_server_that_cannot_store_any_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what nobody has foreseen, instead of looking as if it could."""
    harness = Harness(monkeypatch)
    harness.storage.is_unreadable = True

    def begin() -> None:
        harness.loop._storing.add(Load("a", 0, 10, 10))
        harness.loop._perform()

    with pytest.raises(RuntimeError, match="foreseen"):
        run(harness, begin=begin, seconds=10.0)


def test_a_server_that_fails_by_itself_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the broker fails on what is due, nothing would ever be due again."""
    harness = Harness(monkeypatch, resend_initial=0.01, resend_max=0.01)

    def tick(_now: float) -> None:
        raise RuntimeError("nobody has foreseen this")

    monkeypatch.setattr(harness.loop._broker, "tick", tick)
    with pytest.raises(RuntimeError, match="foreseen"):
        run(harness, begin=harness.subscribe_and_publish, seconds=10.0)


def test_a_hurried_end_does_not_wait_for_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way is confirmed to nobody any more, and nothing fails later."""
    harness = Harness(monkeypatch)
    harness.storage.seconds = 0.3
    problems: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        asyncio.get_running_loop().call_soon(harness.subscribe_and_publish)
        await harness.serve(seconds=0.1)
        await asyncio.sleep(0.4)

    asyncio.run(main())
    assert harness.storage.commits[0] == 1
    assert not any(isinstance(command, Confirm) for command in harness.sent)
    assert problems == []


def test_a_full_disk_forgets_no_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written as soon as there is space, and what is read meanwhile is read after it."""
    harness = Harness(monkeypatch, StorageFull("full"), StorageFull("full"))
    load = Load("a", 0, 10, 10)

    def begin() -> None:
        harness.loop._storing.add(SETTLE)
        harness.loop._storing.add(load)
        harness.loop._perform()

    run(harness, begin=begin)
    assert harness.storage.done == [SETTLE, load]


def test_the_last_changes_are_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is settled as the server stops must not come again."""
    harness = Harness(monkeypatch)

    async def main() -> None:
        harness.loop._storing.add(SETTLE)
        await harness.loop._drain()

    harness.stop()
    asyncio.run(main())
    assert harness.storage.done == [SETTLE]
    harness.loop._sockets.close()


def test_a_peer_that_takes_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As many frames wait for it as ``send_queue`` says."""
    harness = Harness(monkeypatch)
    harness.result = Sent.FULL
    waiting: list[int] = []

    async def main() -> None:
        for _ in range(4):
            harness.loop._send(A, [A, b"frame"])
            waiting.append(len(harness.loop._outboxes.get(A, ())))

    asyncio.run(main())
    assert waiting == [1, 2, 3, 0]
    assert "a client is given up that takes nothing: 18 bytes wait for it" in caplog.text
    harness.loop._sockets.close()


def test_one_deadline_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due again and again is done each time, though nothing arrives in between."""
    harness = Harness(monkeypatch, resend_initial=0.01, resend_max=0.01)
    run(harness, begin=harness.subscribe_and_publish, seconds=0.5)
    attempts = [command.attempt for command in harness.sent if isinstance(command, Deliver)]
    assert attempts[:4] == [1, 2, 3, 4]


def test_what_is_left_by_who_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stored at once which message was delivered, whatever was sent when the peer was found to be gone."""
    harness = Harness(monkeypatch, credit=1)
    committed: list[bool] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, harness.subscribe_and_publish, 2)
        loop.call_later(0.2, lambda: harness.loop._give_up(A))
        loop.call_later(0.3, lambda: committed.append(any(isinstance(one, Offered) for one in harness.storage.done)))
        await harness.serve(seconds=0.4)

    asyncio.run(main())
    assert committed == [True]


def test_what_is_left_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """If more had arrived than is taken at once when the loop ends, it ends all the same, and nothing fails later."""
    problems: list[dict[str, Any]] = []

    async def main() -> None:
        harness = Harness(monkeypatch)
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        await harness.serve(seconds=0.01)
        harness.loop._pump_soon()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert problems == []
