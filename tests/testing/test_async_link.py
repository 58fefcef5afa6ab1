"""Clients for asyncio in memory: what tasks wait for happens by itself; time passes when it is told to."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from mezzenger import (
    AsyncMezzenger,
    Message,
    MezzengerError,
    NoResponders,
    ServerSettings,
    ServerUnreachable,
    Settings,
    State,
)
from mezzenger.testing import Link

Seen = list[tuple[object, int]]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Runs a coroutine function to its end, in a loop in which nothing else is left then."""

    def run_in_loop(main: Callable[[], Awaitable[None]]) -> None:
        async def run_main() -> None:
            await main()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(run_main())

    return run_in_loop


Run = Callable[[Callable[[], Awaitable[None]]], None]


def noted(seen: Seen) -> Callable[[object, Message[object]], Awaitable[None]]:
    """Return a coroutine function that notes payload and attempt."""

    async def note(payload: object, msg: Message[object]) -> None:
        await asyncio.sleep(0)
        seen.append((payload, msg.attempt))

    return note


@pytest.mark.parametrize("ack", [0, 1])
def test_messages_and_requests(mezzenger_memory: Link, run: Run, ack: int) -> None:
    """What is awaited happens in the loop's next turns; after settle all callbacks have returned."""

    async def main() -> None:
        seen: Seen = []
        async with mezzenger_memory.async_client() as publisher, mezzenger_memory.async_client() as subscriber:
            await subscriber.subscribe("numbers", noted(seen))
            await subscriber.subscribe("double", lambda payload, _msg: 2 * payload)
            for number in range(10):
                await publisher.send_message("numbers", number, ack=ack)
            await mezzenger_memory.settle()
            assert seen == [(number, 1) for number in range(10)]
            assert await publisher.send_messages("numbers", range(10, 1000), ack=ack) == 990
            await mezzenger_memory.settle()
            assert seen == [(number, 1) for number in range(1000)]
            assert await publisher.request("double", 4) == 8
            with pytest.raises(NoResponders):
                await publisher.request("triple", 4)
        assert mezzenger_memory.stats().peers == 0

    run(main)


def test_messages_one_by_one(mezzenger_memory: Link, run: Run) -> None:
    """The other way to receive works too, with an ack by hand."""

    async def main() -> None:
        async with mezzenger_memory.async_client() as mc:
            async with mc.messages("numbers", ack="manual") as messages:
                await mc.send_messages("numbers", range(3), ack=1)
                async for msg in messages:
                    await msg.ack()
                    if msg.payload == 2:
                        break
            await mezzenger_memory.settle()
            assert mezzenger_memory.stats().acked == 3

    run(main)


def test_time(mezzenger_memory: Link, run: Run) -> None:
    """A message that is nacked comes again after its pauses, to the moment; then it is a dead letter."""

    async def main() -> None:
        attempts: list[float] = []
        start = mezzenger_memory.clock.now

        async def fail(payload: object, _msg: Message[object]) -> None:
            await asyncio.sleep(0)
            attempts.append(round(mezzenger_memory.clock.now - start, 3))
            raise ValueError(payload)

        async with mezzenger_memory.async_client() as mc:
            await mc.subscribe("jobs", fail)
            await mc.send_message("jobs", 3, ack=1)
            await mezzenger_memory.advance("31s")
            assert attempts == [0, 1, 3, 7, 15, 31]
            await mezzenger_memory.advance("1h")
            assert [letter.attempts async for letter in mc.dead.list("jobs")] == [20]

    run(main)


def test_time_passes_only_when_it_is_told_to(mezzenger_memory: Link, run: Run) -> None:
    """Who waits for what only time brings waits until then."""

    async def main() -> None:
        async with mezzenger_memory.async_client() as mc:
            mezzenger_memory.cut(mc, "1m")
            sending = asyncio.create_task(mc.send_message("jobs", 3, ack=1))
            await mezzenger_memory.advance("11s")
            assert not sending.done()
            await mezzenger_memory.advance("1s")
            with pytest.raises(ServerUnreachable):
                await sending
            assert mc.state in {State.RECONNECTING, State.CONNECTING}
            await mezzenger_memory.advance("1m")
            await mc.send_message("jobs", 3, ack=1)

    run(main)


def test_a_callback_that_waits_for_something_else(mezzenger_memory: Link, run: Run) -> None:
    """It has returned when all is settled, though it took real time."""

    async def main() -> None:
        seen: Seen = []

        async def wait_and_note(payload: object, msg: Message[object]) -> None:
            await asyncio.sleep(0.1)
            seen.append((payload, msg.attempt))

        async with mezzenger_memory.async_client() as mc:
            await mc.subscribe("jobs", wait_and_note)
            await mc.send_message("jobs", 3, ack=1)
            await mezzenger_memory.settle()
            assert seen == [(3, 1)]
            assert mezzenger_memory.stats().acked == 1

    run(main)


def test_a_callback_that_does_not_return(mezzenger_memory: Link, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for once, not at each moment of an hour; what it needs may come afterwards."""
    monkeypatch.setattr("mezzenger.testing.turns._PATIENCE", 0.05)

    async def main() -> None:
        may_return = asyncio.Event()
        async with mezzenger_memory.async_client(heartbeat_interval=1, heartbeat_timeout=3) as mc:
            await mc.subscribe("jobs", lambda _payload, _msg: may_return.wait())
            await mc.send_message("jobs", 3, ack=1)
            began = asyncio.get_running_loop().time()
            await mezzenger_memory.advance("10m")
            assert asyncio.get_running_loop().time() - began < 20
            assert mezzenger_memory.stats().acked == 0
            may_return.set()
            await mezzenger_memory.settle()
            assert mezzenger_memory.stats().acked == 1

    run(main)


def test_a_callback_that_waits_for_the_server(
    mezzenger_memory: Link, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for: only time can help it."""
    monkeypatch.setattr("mezzenger.testing.turns._PATIENCE", 1000.0)

    async def main() -> None:
        async with mezzenger_memory.async_client() as mc, mezzenger_memory.async_client() as other:

            async def pass_on(payload: object, _msg: Message[object]) -> None:
                mezzenger_memory.cut(other, "5s")
                await other.send_message("done", payload, ack=1)

            await mc.subscribe("jobs", pass_on)
            await mc.send_message("jobs", 3, ack=1)
            await mezzenger_memory.settle()
            assert mezzenger_memory.stats().stored == 1
            await mezzenger_memory.advance("11s")
            assert mezzenger_memory.stats().stored == 2

    run(main)


def test_an_ack_is_lost(mezzenger_memory: Link, run: Run) -> None:
    """The client connects again, is given the message again, and recognises it."""

    async def main() -> None:
        seen: Seen = []
        async with mezzenger_memory.async_client() as mc:
            await mc.subscribe("jobs", noted(seen))
            mezzenger_memory.drop_next_ack()
            await mc.send_message("jobs", 3, ack=1)
            await mezzenger_memory.advance("1s")
            assert seen == [(3, 1)]
            assert (mc.stats.duplicates, mezzenger_memory.stats().acked) == (1, 1)

    run(main)


def test_a_client_is_killed_by_its_callback(mezzenger_memory: Link, run: Run) -> None:
    """It goes on no further than to its next await; what it was handling comes to another one, marked."""

    async def main() -> None:
        seen: Seen = []
        async with mezzenger_memory.async_client() as victim, mezzenger_memory.async_client() as heir:

            async def die(_payload: object, msg: Message[object]) -> None:
                seen.append(("victim", msg.attempt))
                mezzenger_memory.kill(victim)
                await asyncio.sleep(0)
                seen.append(("ghost", 0))

            await victim.subscribe("jobs", die, group="workers")
            for number in (1, 2):
                await heir.send_message("jobs", number, ack=1)
            await mezzenger_memory.settle()
            assert (seen, victim.state) == ([("victim", 1)], State.CLOSED)
            await heir.subscribe("jobs", noted(seen), group="workers")
            await mezzenger_memory.settle()
            assert seen == [("victim", 1), (1, 2), (2, 1)]

    run(main)


def test_callbacks_without_end(mezzenger_memory: Link, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback that sends itself a message is told of, and does not hang the test."""
    monkeypatch.setattr("mezzenger.testing.works._ENDLESS", 100)

    async def main() -> None:
        async with mezzenger_memory.async_client() as mc:
            await mc.subscribe("again", lambda _payload, msg: mc.send_message(msg.name, 1))
            await mc.send_message("again", 1)
            with pytest.raises(MezzengerError, match="no end after 100 messages"):
                await asyncio.wait_for(mezzenger_memory.settle(), 20)
            await mc.unsubscribe("again")

    run(main)


def test_a_callback_that_takes_long(mezzenger_memory: Link, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has time pass is waited for, though time passes for nobody else then; two do not wait for each other."""
    monkeypatch.setattr("mezzenger.testing.turns._PATIENCE", 0.05)

    async def main() -> None:
        done: list[tuple[object, float]] = []
        start = mezzenger_memory.clock.now

        async def take_long(payload: object, _msg: Message[object]) -> None:
            for _ in range(3):
                await mezzenger_memory.advance("10s")
            done.append((payload, round(mezzenger_memory.clock.now - start)))

        async with mezzenger_memory.async_client() as mc, mezzenger_memory.async_client() as other:
            await mc.subscribe("jobs", take_long)
            await mc.send_messages("jobs", [1, 2, 3], ack=1)
            await mezzenger_memory.settle()
            assert done == [(1, 30), (2, 60), (3, 90)]
            await other.subscribe("more", take_long)
            await mc.send_message("jobs", 4, ack=1)
            await mc.send_message("more", 5, ack=1)
            await mezzenger_memory.settle()
            assert {payload for payload, _ in done[3:]} == {4, 5}
            assert mezzenger_memory.stats().acked == 5

    run(main)


def test_a_loop_that_has_ended(mezzenger_memory: Link, run: Run) -> None:
    """A client that was not stopped in it is gone; others, and another loop, are served as if it had stopped."""
    left: list[AsyncMezzenger] = []
    with_threads = mezzenger_memory.client()

    async def leave() -> None:
        left.append(await mezzenger_memory.async_client())
        await left[0].subscribe("news", noted([]))

    async def main() -> None:
        async with mezzenger_memory.async_client() as mc:
            await mc.send_message("news", 2, ack=1)
            await mezzenger_memory.advance("2h")

    asyncio.run(leave())
    with_threads.send_message("news", 1, ack=1)
    assert mezzenger_memory.stats().stored == 1
    run(main)
    assert left[0].state is State.CLOSED
    assert (mezzenger_memory.stats().pending, mezzenger_memory.stats().peers) == (2, 1)


def test_the_log_is_sent_on(mezzenger_memory: Link, run: Run) -> None:
    """A handler of the log may send with a client without asyncio, and wait for the server."""
    with_threads = mezzenger_memory.client()

    class SendsOn(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with_threads.send_message("log", record.getMessage(), ack=1)

    async def main() -> None:
        async with mezzenger_memory.async_client() as mc:
            mezzenger_memory.cut(mc)
            await mezzenger_memory.advance("10s")
            assert mezzenger_memory.stats().stored == 1

    handler = SendsOn(logging.WARNING)
    logging.getLogger("mezzenger.client").addHandler(handler)
    try:
        run(main)
    finally:
        logging.getLogger("mezzenger.client").removeHandler(handler)


def test_a_crash(run: Run, tmp_path: Path) -> None:
    """Who waits for a confirm meanwhile gets it, from the next server; what was stored is there."""

    async def main() -> None:
        seen: Seen = []
        with Link(Settings(server=ServerSettings(persist_file=tmp_path / "messages.db"))) as link:
            async with link.async_client() as mc:
                await mc.send_message("jobs", 1, ack=1)
                link.crash_and_restart(down="5s")
                sending = asyncio.create_task(mc.send_message("jobs", 2, ack=1))
                await link.advance("11s")
                await sending
                await mc.subscribe("jobs", noted(seen))
                await link.settle()
                assert seen == [(1, 1), (2, 1)]

    run(main)


def test_both_kinds_of_clients(mezzenger_memory: Link, run: Run) -> None:
    """They may meet, also if one of them is used on another thread."""

    async def main() -> None:
        seen: Seen = []
        heard: list[object] = []
        with_threads = mezzenger_memory.client()
        with_threads.subscribe("answers", lambda payload, _msg: heard.append(payload))
        async with mezzenger_memory.async_client() as mc:
            await mc.subscribe("questions", noted(seen))
            with_threads.send_message("questions", 1, ack=1)
            await mezzenger_memory.settle()
            await asyncio.to_thread(with_threads.send_message, "questions", 2, 1)
            await mc.send_message("answers", 3)
            await mezzenger_memory.settle()
            assert seen == [(1, 1), (2, 1)]
            assert heard == [3]
            await mezzenger_memory.advance("1d")

    run(main)


def test_a_client_that_is_not_closed(mezzenger_memory: Link) -> None:
    """It ends with the link; and what has ended is not one of another link."""
    left: list[AsyncMezzenger] = []

    async def main() -> None:
        with Link() as link:
            left.append(await link.async_client())
            left.append(link.async_client())
        with pytest.raises(MezzengerError, match="not one of this link"):
            mezzenger_memory.cut(left[0])

    asyncio.run(main())
    assert [mc.state for mc in left] == [State.CLOSED, State.CLOSED]


def test_no_thread(mezzenger_memory: Link, run: Run) -> None:
    """All happens in the loop."""
    threads = set(threading.enumerate())

    async def main() -> None:
        async with mezzenger_memory.async_client() as mc:
            await mc.subscribe("double", lambda payload, _msg: 2 * payload)
            assert await mc.request("double", 4) == 8
            assert set(threading.enumerate()) == threads

    run(main)
