"""An asyncio client that is cancelled, step by step: it is known what came of it, and nothing is left behind."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from mezzenger import AsyncMezzenger, ClientSettings, Message, MezzengerServer, ResendSettings, ServerSettings
from tests.integration.processes import open_files, slow_road, wait_for

SECONDS: Final = 20.0
STEPS: Final = 40
"""More than anything here takes; a test fails if that is not so."""

Count = Counter[tuple[object, int]]


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server that sends again soon, and never gives up: what is cancelled over and over uses up its attempts."""
    resend = ResendSettings(initial=0.02, max=0.1, max_attempts=10_000)
    settings = ServerSettings(pub_port=0, recv_port=0, resend=resend, drain_timeout=0.5)
    with MezzengerServer(settings) as server:
        yield server


def client(server: MezzengerServer, **settings: object) -> AsyncMezzenger:
    ports = {"send_port": server.recv_port, "sub_port": server.pub_port}
    return AsyncMezzenger(settings=ClientSettings.model_validate(ports | settings))


async def until(condition: Callable[[], object]) -> None:
    """Wait in the loop until something is so."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  # it comes about in another thread
            await asyncio.sleep(0.005)


async def cancelled_after(steps: int, work: Coroutine[Any, Any, object]) -> tuple[bool, list[str]]:
    """Let a task have so many turns, then cancel it; return whether it was done by then, and the notes if not."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    if task.done():
        await task
        return True, []
    task.cancel()
    try:
        async with asyncio.timeout(SECONDS):
            await task
    except asyncio.CancelledError as error:
        return False, getattr(error, "__notes__", [])
    return True, []


@asynccontextmanager
async def nothing_left(server: MezzengerServer) -> AsyncIterator[AsyncMezzenger]:
    """Have a client; see to it that it leaves neither a task nor a file behind, nor anything in the server."""
    before, files = asyncio.all_tasks(), open_files()
    async with client(server) as mc:
        yield mc
    assert asyncio.all_tasks() == before
    await until(lambda: open_files() <= files)


async def every_step_of_a_send(server: MezzengerServer, ack: int) -> None:
    sent, unsent, unknown = set[int](), set[int](), set[int]()
    arrived: Count = Counter()
    async with client(server) as subscriber, nothing_left(server) as mc:
        await subscriber.subscribe("jobs", lambda payload, msg: arrived.update([(payload, msg.attempt)]))
        for steps in range(STEPS):
            is_done, notes = await cancelled_after(steps, mc.send_message("jobs", steps, ack=ack))
            if is_done or any("it is done" in note for note in notes):
                sent.add(steps)
            elif not notes:
                unsent.add(steps)  # it had not even begun
            elif any("before anything was sent" in note for note in notes):
                unsent.add(steps)
            else:
                unknown.add(steps)
        assert unknown == set()
        assert 0 in unsent
        assert STEPS - 1 in sent
        await mc.flush()
        await until(lambda: sent <= {payload for payload, _ in arrived})
        # Nobody has it twice, and what was said not to be sent was not.
        assert arrived == Counter((number, 1) for number in sent)


@pytest.mark.parametrize("ack", [0, 1])
def test_a_send(server: MezzengerServer, ack: int) -> None:
    """Cancelled after its n-th step, for all n: the message was stored, or was not sent, and the notes say which."""
    asyncio.run(every_step_of_a_send(server, ack))
    wait_for(lambda: server.stats().pending == 0)


def test_a_send_while_there_is_no_server() -> None:
    """What waits for a connection is not sent once it is cancelled, and the others are."""

    async def work() -> None:
        with MezzengerServer(ServerSettings(pub_port=0, recv_port=0)) as first:
            ports = {"recv_port": first.recv_port, "pub_port": first.pub_port}
            mc = await client(first, reconnect_max=0.1, connection_retries=20)
        await until(lambda: mc.state != "open")
        tasks = [asyncio.create_task(mc.send_message("jobs", number, ack=1)) for number in range(10)]
        await asyncio.sleep(0.05)
        for task in tasks[::2]:
            task.cancel()
        for task in tasks[::2]:
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert "before anything was sent" in caught.value.__notes__[0]
        with MezzengerServer(ServerSettings.model_validate(ports)):
            async with mc:
                await asyncio.gather(*tasks[1::2])
                arrived: list[object] = []
                await mc.subscribe("jobs", lambda payload, _msg: arrived.append(payload))
                await until(lambda: len(arrived) >= 5)
                await mc.flush()
                assert sorted(map(str, arrived)) == ["1", "3", "5", "7", "9"]

    asyncio.run(work())


def test_a_send_that_is_cancelled_twice(server: MezzengerServer) -> None:
    """The second time it is not waited for any longer; the note says that it may have been stored."""

    async def work() -> None:
        with slow_road(server.recv_port, 0.1) as port:
            async with client(server, send_port=port) as mc:
                task = asyncio.create_task(mc.send_message("jobs", 1, ack=1))
                for _ in range(2):
                    await asyncio.sleep(0)
                    task.cancel()
                with pytest.raises(asyncio.CancelledError) as caught:
                    await task
                assert any("may have been stored" in note for note in caught.value.__notes__)

    asyncio.run(work())


def test_a_batch(server: MezzengerServer) -> None:
    """The note at a cancelled send_messages says how many were sent; so many have arrived, at least."""

    async def work() -> None:
        arrived: list[object] = []
        async with client(server) as subscriber, nothing_left(server) as mc:
            await subscriber.subscribe("jobs", lambda payload, _msg: arrived.append(payload))
            for steps in range(0, STEPS, 3):
                arrived.clear()
                is_done, notes = await cancelled_after(steps, mc.send_messages("jobs", range(20_000), ack=1))
                await mc.flush()
                told = 20_000 if is_done else max([int(n.split()[0]) for n in notes if "were sent before" in n] or [0])
                await until(lambda least=told: len(arrived) >= least)  # type: ignore[misc]  # mypy infers no default
                await until(lambda: server.stats().pending == 0)

    asyncio.run(work())


def test_a_handler(server: MezzengerServer) -> None:
    """A handler whose task is cancelled in its n-th step, for all n, has its message again, with a higher attempt."""

    async def work() -> None:
        begun: Count = Counter()
        finished: Count = Counter()
        tasks: dict[object, asyncio.Task[Any]] = {}

        async def handle(payload: int, msg: Message[int]) -> None:
            begun[payload, msg.attempt] += 1
            current = asyncio.current_task()
            assert current is not None
            if msg.attempt == 1:
                tasks[payload] = current
                # The task that runs this may be cancelled by whoever finds it, at any step.
                loop = asyncio.get_running_loop()
                cancel_after(loop, payload, current)
            for _ in range(STEPS):
                await asyncio.sleep(0)
            finished[payload, msg.attempt] += 1

        async with nothing_left(server) as mc:
            await mc.subscribe("jobs", handle)
            for steps in range(STEPS + 10):
                await mc.send_message("jobs", steps, ack=1)
            await until(lambda: len({payload for payload, _ in finished}) == STEPS + 10)
            await mc.flush()
            await until(lambda: server.stats().pending == 0)
        # Each was finished once, and begun anew only if it was marked as a redelivery.
        assert Counter(payload for payload, _ in finished) == Counter(range(STEPS + 10))
        assert set(begun.values()) == {1}
        assert any(attempt > 1 for _, attempt in finished)
        assert any(attempt == 1 for _, attempt in finished)

    asyncio.run(work())


def test_what_waits_behind_a_cancelled_handler(server: MezzengerServer) -> None:
    """The task that is cancelled ends; another one handles what waits, though nothing more arrives."""

    async def work() -> None:
        handled: list[int] = []

        async def handle(payload: int, _msg: Message[int]) -> None:
            current = asyncio.current_task()
            if payload == 0 and current is not None:
                current.cancel()
                await asyncio.sleep(0)
            handled.append(payload)

        async with nothing_left(server) as mc:
            await mc.subscribe("jobs", handle)
            await mc.send_messages("jobs", range(3))
            await until(lambda: handled == [1, 2])

    asyncio.run(work())


def cancel_after(loop: asyncio.AbstractEventLoop, turns: int, task: asyncio.Task[Any]) -> None:
    """Cancel a task after so many turns of the loop, unless it is done."""
    if turns:
        loop.call_soon(cancel_after, loop, turns - 1, task)
    elif not task.done():
        task.cancel()


@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_a_loop_over_messages(server: MezzengerServer, mode: str) -> None:
    """A loop that is cancelled in its n-th step, for all n: each message is handled, and twice only if it is marked."""

    async def work() -> None:
        handled: Count = Counter()

        async def consume(mc: AsyncMezzenger) -> None:
            async with mc.messages("jobs", ack="auto" if mode == "auto" else "manual") as messages:
                async for msg in messages:
                    await asyncio.sleep(0)
                    handled[msg.payload, msg.attempt] += 1
                    if mode == "manual":
                        await msg.ack()

        async with nothing_left(server) as mc:
            await mc.send_messages("jobs", range(200), ack=1)
            for steps in range(STEPS):
                await cancelled_after(steps, consume(mc))
            task = asyncio.create_task(consume(mc))
            await until(lambda: {payload for payload, _ in handled} == set(range(200)))
            await until(lambda: server.stats().pending == 0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert set(handled.values()) == {1}

    asyncio.run(work())


@pytest.mark.parametrize("what", ["connect", "subscribe", "flush", "request", "ask", "stop"])
def test_all_else(server: MezzengerServer, what: str) -> None:
    """Whatever is cancelled after its n-th step, for all n, can be done again, and leaves nothing behind."""

    async def work() -> None:
        before, files = asyncio.all_tasks(), open_files()
        async with client(server) as answering:
            await answering.subscribe("ask", lambda payload, _msg: payload)
            for steps in range(STEPS):
                mc = client(server)
                if what == "connect":
                    await cancelled_after(steps, mc.start())
                else:
                    async with mc:
                        await cancelled_after(steps, USES[what](mc))
                        if what != "stop":
                            await USES[what](mc)
                await mc.stop()
        assert asyncio.all_tasks() == before
        await until(lambda: open_files() <= files)

    threads = threading.active_count()
    asyncio.run(work())
    assert threading.active_count() == threads
    # Who was gone before it had said all is forgotten after the server's heartbeat_timeout.
    wait_for(lambda: server.stats().peers == 0)


async def subscribe(mc: AsyncMezzenger) -> None:
    await mc.subscribe("name", lambda _payload, _msg: None)
    await mc.unsubscribe("name")


async def flush(mc: AsyncMezzenger) -> None:
    await mc.flush()


async def request(mc: AsyncMezzenger) -> None:
    assert await mc.request("ask", 5) == 5


async def ask(mc: AsyncMezzenger) -> None:
    assert [letter async for letter in mc.dead.list()] == []


async def stop(mc: AsyncMezzenger) -> None:
    await mc.subscribe("name", lambda _payload, _msg: None)
    await mc.stop()


USES: Final[dict[str, Callable[[AsyncMezzenger], Coroutine[Any, Any, None]]]] = {
    "subscribe": subscribe,
    "flush": flush,
    "request": request,
    "ask": ask,
    "stop": stop,
}
