"""What only an asyncio client does: many tasks, coroutine callbacks, messages in a loop, decorators."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from mezzenger import (
    AsyncMezzenger,
    Channel,
    ClientSettings,
    ClientStopped,
    InvalidMembership,
    Message,
    MessageInHand,
    Mezzenger,
    MezzengerError,
    MezzengerServer,
    NoResponders,
    RemoteError,
    ResendSettings,
    ServerSettings,
    ServerUnreachable,
    UsedAfterFork,
    UsedInAnotherLoop,
)
from mezzenger.client.extras import SendOptions
from mezzenger.client.messages import Messages
from tests.integration.processes import (
    Ports,
    free_ports,
    open_files,
    patient,
    read_line,
    running,
    server_process,
    wait_for,
)

SECONDS: Final = 30.0
LOOPS: Final = [asyncio.new_event_loop, uvloop.new_event_loop]

EXITING: Final = """
import asyncio, sys
from mezzenger import AsyncMezzenger, ClientSettings

def leave(payload, message):
    sys.exit(payload)

async def main():
    async with AsyncMezzenger(settings=ClientSettings(**eval(sys.argv[1]))) as mc:
        await mc.subscribe("exit", leave)
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

variable: ContextVar[str] = ContextVar("variable", default="nobody's")


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server that sends again soon."""
    settings = ServerSettings(pub_port=0, recv_port=0, resend=ResendSettings(initial=0.05), drain_timeout=0.5)
    with MezzengerServer(settings) as server:
        yield server


def client(where: MezzengerServer | Ports, **settings: object) -> AsyncMezzenger:
    at = where if isinstance(where, Ports) else Ports(where.recv_port, where.pub_port)
    return AsyncMezzenger(settings=ClientSettings.model_validate(at._asdict() | settings))


async def until(condition: Callable[[], object]) -> None:
    """Wait in the loop until something is so."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110  # it comes about elsewhere
            await asyncio.sleep(0.005)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
def test_ten_thousand_tasks(tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """P4: while the server is killed twice, every send with ack=1 returns and is delivered, or raises; the sums agree.

    What has raised may have been stored all the same, as its error says; nothing else is delivered.
    """
    ports, log, store = free_ports(), tmp_path / "log", {"persist_file": str(tmp_path / "messages.db")}
    confirmed, failed = set[int](), dict[int, Exception]()
    delivered: Counter[int] = Counter()

    async def send(mc: AsyncMezzenger, number: int) -> None:
        try:
            await mc.send_message("numbers", number, ack=1)
        except MezzengerError as error:
            failed[number] = error
        else:
            confirmed.add(number)

    async def count(payload: int, msg: Message[int]) -> None:
        await asyncio.sleep(0)
        delivered[payload] += msg.attempt == 1

    async def work() -> None:
        patient = {"reconnect_max": 0.2, "send_timeout": 20.0}
        first = server_process(ports, log, **store)
        process = await asyncio.to_thread(first.__enter__)
        async with client(ports, **patient) as mc, client(ports, **patient) as subscriber:
            await subscriber.subscribe("numbers", count)
            tasks = [asyncio.create_task(send(mc, number)) for number in range(10_000)]
            running = [first]
            for share in (2_000, 6_000):
                await until(lambda least=share: len(confirmed) + len(failed) >= least)  # type: ignore[misc]  # mypy infers no default
                process.kill()
                await asyncio.to_thread(running[-1].__exit__, None, None, None)
                running.append(server_process(ports, log, **store))
                process = await asyncio.to_thread(running[-1].__enter__)
            await asyncio.gather(*tasks)
            await until(lambda: confirmed <= delivered.keys())
            await mc.flush()
        await asyncio.to_thread(running[-1].__exit__, None, None, None)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(work())
    assert len(confirmed) + len(failed) == 10_000
    assert confirmed.isdisjoint(failed)
    assert len(confirmed) > 6_000
    assert delivered.keys() - confirmed <= failed.keys()
    assert all(isinstance(error, ServerUnreachable) for error in failed.values())


class Breathing:
    """A task that counts the turns that the others leave to it."""

    def __init__(self) -> None:
        self.turns = 0
        self._task = asyncio.create_task(self._breathe())

    async def _breathe(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1

    def stop(self) -> None:
        self._task.cancel()


@pytest.mark.parametrize("options", [SendOptions(), SendOptions(headers={"a": "b"})], ids=["plain", "headers"])
@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
def test_one_that_sends_on_and_on(
    server: MezzengerServer, new_loop: Callable[[], asyncio.AbstractEventLoop], options: SendOptions
) -> None:
    """A task that only sends, with ack=0, lets the others have their turn; nothing is lost."""

    async def work() -> None:
        arrived: list[int] = []
        async with client(server) as mc:
            await mc.subscribe("numbers", lambda payload, _msg: arrived.append(payload))
            breathing = Breathing()
            for number in range(20_000):
                await mc.send_message("numbers", number, **options)
            assert breathing.turns > 10
            breathing.stop()
            await until(lambda: len(arrived) == 20_000)
            assert arrived == list(range(20_000))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(work())


def test_one_that_sends_many_at_once(server: MezzengerServer) -> None:
    """With ack=0 it lets the others have a turn after each batch; cancelled, it says how many were sent before."""

    async def work() -> None:
        async with client(server) as mc:
            breathing = Breathing()
            await mc.send_messages("numbers", range(10_240))
            assert breathing.turns > 10
            task = asyncio.create_task(mc.send_messages("numbers", range(10_240)))
            breathing.turns = 0
            await until(lambda: breathing.turns > 3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            breathing.stop()
            sent = int(caught.value.__notes__[-1].removesuffix(" messages were sent before"))
            assert 0 < sent < 10_240
            await mc.flush()
            assert server.stats().dropped["no_subscriber"] == 10_240 + sent

    asyncio.run(work())


def test_subscribe_then_publish(server: MezzengerServer) -> None:
    """P5: 1,000 times, what another client publishes right after subscribe() has returned arrives."""

    async def work() -> None:
        arrived: list[int] = []
        async with client(server) as subscriber, client(server) as publisher:
            for number in range(1_000):
                await subscriber.subscribe(f"fresh.{number}", lambda payload, _msg: arrived.append(payload))
                await publisher.send_message(f"fresh.{number}", number)
            await until(lambda: len(arrived) == 1_000)
            assert sorted(arrived) == list(range(1_000))

    asyncio.run(work())


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize("is_active", [False, True])
def test_a_subscription_in_place_of_another(server: MezzengerServer, is_active: bool, is_cancelled: bool) -> None:
    """Who unsubscribes what is being subscribed, and subscribes anew, has the new callback, whatever the first did."""

    async def work() -> None:
        arrived: list[str] = []
        async with client(server) as mc:
            first = asyncio.create_task(mc.subscribe("name", lambda _payload, _msg: arrived.append("first")))
            await asyncio.sleep(0)
            [waiter] = mc._engine._pump._waiting.values()
            # It is known one turn before the task knows.
            while is_active and not waiter.is_done:  # noqa: ASYNC110
                await asyncio.sleep(0)
            if is_cancelled:
                first.cancel()
            await mc.unsubscribe("name")
            await mc.subscribe("name", lambda _payload, _msg: arrived.append("second"))
            await asyncio.wait([first])
            assert first.cancelled() if is_cancelled else bool(first.exception()) != is_active
            await mc.send_message("name", 1, ack=1)
            await until(lambda: arrived)
            assert arrived == ["second"]

    asyncio.run(work())


def test_at_once(server: MezzengerServer) -> None:
    """With concurrency=5, five messages of a subscription are handled at once, and no sixth; others go on beside it."""

    async def work() -> None:
        running = most = done = 0
        quick: list[object] = []
        release = asyncio.Event()

        async def slow(_payload: object, _msg: Message[object]) -> None:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await release.wait()
            running -= 1
            done += 1

        async with client(server) as mc:
            await mc.subscribe("slow", slow, concurrency=5)
            await mc.subscribe("quick", lambda payload, _msg: quick.append(payload))
            await mc.send_messages("slow", range(20), ack=1)
            await until(lambda: running == 5)
            await mc.send_message("quick", 1)
            await until(lambda: quick == [1])
            assert (most, done) == (5, 0)
            release.set()
            await until(lambda: done == 20)
            assert most == 5
            await mc.flush()
            await until(lambda: server.stats().pending == 0)

    asyncio.run(work())


def test_a_slow_member_holds_back(server: MezzengerServer) -> None:
    """A member that is busy is sent no more than prefetch messages; the rest waits in the server, or goes to others."""

    async def work() -> None:
        release, begun = asyncio.Event(), 0

        async def slow(_payload: object, _msg: Message[object]) -> None:
            nonlocal begun
            begun += 1
            await release.wait()

        async with client(server) as mc:
            await mc.subscribe("jobs", slow, group="workers", prefetch=3, concurrency=2)
            for number in range(20):
                await mc.send_message("jobs", number, ack=1)
            await until(lambda: begun == 2)
            await asyncio.sleep(0.2)
            (group,) = [group async for group in mc.groups.list()]
            assert (begun, group.in_hand, group.pending) == (2, 3, 20)
            release.set()
            await until(lambda: begun == 20)

    asyncio.run(work())


def test_each_callback_has_its_own_context(server: MezzengerServer) -> None:
    """A callback runs in the context of who has subscribed, whoever sends, and what it changes stays with it."""

    async def work() -> None:
        seen: list[str] = []

        async def callback(_payload: object, _msg: Message[object]) -> None:
            seen.append(variable.get())
            variable.set("the callback's")

        async with client(server) as mc:
            variable.set("the subscriber's")
            await mc.subscribe("name", callback)
            variable.set("the sender's")
            for number in range(3):
                await mc.send_message("name", number)
                await until(lambda least=number: len(seen) > least)  # type: ignore[misc]  # mypy infers no default
        assert seen == ["the subscriber's"] * 3

    asyncio.run(work())


def test_a_callback_that_asks(server: MezzengerServer) -> None:
    """It may ask other subscriptions of its own client, but not itself, which is told at once."""

    async def work() -> None:
        async with client(server) as mc:

            async def outer(payload: int, _msg: Message[int]) -> object:
                return await mc.request("inner", payload)

            async def itself(payload: int, _msg: Message[int]) -> object:
                with pytest.raises(NoResponders):
                    await mc.request("itself", payload)
                return "told"

            await mc.subscribe("inner", lambda payload, _msg: payload * 2)
            await mc.subscribe("outer", outer)
            await mc.subscribe("itself", itself)
            assert await mc.request("outer", 21) == 42
            assert await mc.request("itself", 1, timeout=SECONDS) == "told"

    asyncio.run(work())


def test_an_exit_ends_the_program(server: MezzengerServer) -> None:
    """As anywhere else in a loop; the message is not handled, and who asked is told."""
    ports = Ports(server.recv_port, server.pub_port)
    with patient(ports) as other:
        with running(EXITING, ports._asdict()) as process:
            assert read_line(process) == "ready"
            other.send_message("exit", 3, ack=1)
            assert process.wait(SECONDS) == 3
        wait_for(lambda: server.stats().peers == 1)
        assert server.stats().pending == 1
    with patient(ports) as other, running(EXITING.replace('exit"', 'ask"'), ports._asdict()) as process:
        assert read_line(process) == "ready"
        with pytest.raises(RemoteError, match="SystemExit: 4"):
            other.request("ask", 4)
        assert process.wait(SECONDS) == 4


def test_not_connected(server: MezzengerServer) -> None:
    """Before it is connected each use says what to do; then it can be used until it is stopped, and not after."""

    async def work() -> None:
        mc = client(server)
        with pytest.raises(MezzengerError, match="'async with', or await it first"):
            await mc.send_message("name", 1)
        assert await mc is mc
        await mc.send_message("name", 1)
        await mc.stop()
        await mc.stop()
        with pytest.raises(ClientStopped):
            await mc.send_message("name", 1)
        with pytest.raises(ClientStopped):
            await mc

    asyncio.run(work())


@pytest.mark.parametrize("is_answered", [False, True])
def test_stopped_before_it_is_connected(server: MezzengerServer, is_answered: bool) -> None:
    """Whoever connects it is told, even if the server has answered, and nothing is left of the connection."""

    async def work() -> None:
        mc = client(server)
        starting = [asyncio.create_task(mc.start()) for _ in range(2)]
        await asyncio.sleep(0)
        [waiter] = mc._engine._pump._waiting.values()
        # It is known one turn before the task knows.
        while is_answered and not waiter.is_done:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await mc.stop()
        assert (mc.stopped(), mc.state) == (True, "closed")
        for outcome in await asyncio.gather(*starting, return_exceptions=True):
            assert isinstance(outcome, ClientStopped)
        with pytest.raises(ClientStopped):
            await mc.send_message("name", 1)
        never_connected = client(server)
        await never_connected.stop()
        assert never_connected.state == "closed"
        with pytest.raises(ClientStopped):
            await never_connected

    files = open_files()
    asyncio.run(work())
    wait_for(lambda: open_files() <= files)


class TestAnotherLoop:
    """A client refuses whatever is asked in another loop than its own, and nothing is sent."""

    @pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
    def test_after_its_own(self, server: MezzengerServer, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """The loop is closed, and the client was not stopped: the group that it was in has no member any more."""
        came: list[int] = []

        async def connect() -> AsyncMezzenger:
            mc = await client(server)
            await mc.subscribe("jobs", lambda payload, _: came.append(payload), group="workers")
            await mc.send_message("numbers", 1)
            return mc

        async def misuse(mc: AsyncMezzenger) -> None:
            for ack in 0, 1, 0:
                with pytest.raises(UsedInAnotherLoop, match="which is closed; make a new one in this loop"):
                    await mc.send_message("numbers", 2, ack=ack)
            with pytest.raises(UsedInAnotherLoop):
                await mc
            async with client(server) as other:
                await other.send_message("jobs", 3, ack=1)
                await other.subscribe("jobs", lambda payload, _: came.append(payload), group="workers")
                await until(lambda: came)
            await mc.stop()
            with pytest.raises(ClientStopped):
                await mc.send_message("numbers", 2)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            mc = runner.run(connect())
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(misuse(mc))
        assert came == [3]
        assert server.stats().pending == 0

    def test_beside_its_own(self, server: MezzengerServer) -> None:
        """The loop runs in another thread, and goes on with what its own tasks have sent."""
        came: list[int] = []

        async def misuse(mc: AsyncMezzenger) -> None:
            for ack in 0, 1:
                with pytest.raises(UsedInAnotherLoop, match="which is not this one; make a new one in this loop"):
                    await mc.send_message("numbers", 1, ack=ack)
            with pytest.raises(UsedInAnotherLoop):
                await mc.send_message("numbers", 1, headers={"of": "another"})
            with pytest.raises(UsedInAnotherLoop):
                await mc.request("numbers", 1)
            with pytest.raises(UsedInAnotherLoop):
                await mc.stop()

        async def work() -> None:
            async with client(server) as mc:
                await mc.subscribe("numbers", lambda payload, _: came.append(payload))
                await mc.send_message("numbers", 2)
                await asyncio.to_thread(asyncio.run, misuse(mc))
                await mc.send_message("numbers", 3)
                await until(lambda: 3 in came)

        asyncio.run(work())
        assert came == [2, 3]


def test_a_fork(server: MezzengerServer) -> None:
    """In a forked child the parent's client refuses every use; the parent's goes on."""

    async def work() -> None:
        async with client(server) as mc:
            child = os.fork()
            if child == 0:
                try:
                    await mc.send_message("name", 1)
                except UsedAfterFork:
                    os._exit(7)
                finally:
                    os._exit(1)
            children.append(child)
            await mc.send_message("name", 1, ack=1)

    children: list[int] = []
    asyncio.run(work())
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7


class TestMessages:
    """``async for msg in mc.messages(...)``."""

    def test_auto(self, server: MezzengerServer) -> None:
        """A message is acknowledged when the next one is asked for, the last one at the end of the block."""

        async def work() -> None:
            async with client(server) as mc:
                channel = Channel("numbers", int)
                async with mc.messages(channel) as messages:
                    await mc.send_messages(channel, range(5), ack=1)
                    seen: list[int] = []
                    async for msg in messages:
                        assert (msg.name, msg.attempt, msg.headers, msg.message.ack) == ("numbers", 1, {}, 1)
                        assert msg.message.id == msg.id
                        assert msg.message.timestamp == msg.timestamp == msg["timestamp"]
                        assert (msg["ack"], msg.retained, msg.deadline) == (1, False, None)
                        assert msg.checksum == msg.message.checksum
                        seen.append(msg.payload)
                        if len(seen) == 5:
                            break
                assert seen == list(range(5))
                await mc.flush()
                await until(lambda: server.stats().pending == 0)
                assert server.stats().nacked == 0

        asyncio.run(work())

    def test_an_error_in_the_loop(self, server: MezzengerServer) -> None:
        """The message in hand is nacked with it, and comes again."""

        async def fail(mc: AsyncMezzenger) -> None:
            async with mc.messages("jobs") as messages:
                async for _ in messages:
                    raise ValueError("not today")

        async def work() -> None:
            async with client(server) as mc:
                await mc.send_message("jobs", 1, ack=1)
                with pytest.raises(ValueError, match="not today"):
                    await fail(mc)
                async for msg in mc.messages("jobs"):
                    assert msg.attempt == 2
                    break
                assert server.stats().nacked >= 1

        asyncio.run(work())

    def test_manual(self, server: MezzengerServer) -> None:
        """Several are in hand; each is acknowledged by itself, in any order, or nacked, and comes again."""

        async def work() -> None:
            async with client(server) as mc:
                await mc.send_messages("jobs", range(4), ack=1)
                in_hand: list[MessageInHand[int]] = []
                async with mc.messages("jobs", ack="manual", concurrency=4) as messages:
                    async for msg in messages:
                        in_hand.append(msg)
                        if len(in_hand) == 4:
                            break
                    assert [msg.payload for msg in in_hand] == list(range(4))
                    for msg in reversed(in_hand[1:]):
                        await msg.ack()
                        await msg.nack("too late")
                    await in_hand[0].nack("not today")
                    async for msg in messages:
                        assert (msg.payload, msg.attempt) == (0, 2)
                        await msg.ack()
                        break
                await mc.flush()
                await until(lambda: server.stats().pending == 0)

        asyncio.run(work())

    def test_several_tasks(self, server: MezzengerServer) -> None:
        """They share the messages: who is free takes the next one. One that is cancelled hinders no other; all end."""

        async def work() -> None:
            taken: Counter[int] = Counter()

            async def consume(messages: Messages[int], me: int) -> None:
                async for msg in messages:
                    taken[me] += 1
                    await asyncio.sleep(0.001)
                    await msg.ack()

            async with client(server) as mc:
                async with mc.messages("jobs", ack="manual") as messages:
                    tasks = [asyncio.create_task(consume(messages, me)) for me in range(4)]
                    await asyncio.sleep(0)
                    tasks.pop().cancel()
                    await mc.send_messages("jobs", range(60), ack=1)
                    await until(lambda: taken.total() == 60)
                    assert sorted(taken) == [0, 1, 2]
                    # All wait again by now, and for a single one.
                    await asyncio.sleep(0.01)
                    await mc.send_message("jobs", 60, ack=1)
                    await until(lambda: taken.total() == 61)
                async with asyncio.timeout(SECONDS):
                    await asyncio.gather(*tasks)
            await until(lambda: server.stats().pending == 0)

        asyncio.run(work())

    def test_one_of_several_tasks_stops(self, server: MezzengerServer) -> None:
        """It need not wait for itself, whoever has asked for a message last; what it has in hand comes again."""

        async def work() -> None:
            async def consume(mc: AsyncMezzenger, messages: Messages[int]) -> None:
                async for _ in messages:
                    await asyncio.sleep(0)
                    await mc.stop()

            async with client(server) as mc, mc.messages("jobs") as messages:
                tasks = [asyncio.create_task(consume(mc, messages)) for _ in range(2)]
                await asyncio.sleep(0.01)
                await mc.send_message("jobs", 1, ack=1)
                async with asyncio.timeout(SECONDS):
                    await asyncio.gather(*tasks)
            assert server.stats().pending == 1

        asyncio.run(work())

    def test_a_task_of_the_loop_stops_the_client(self, server: MezzengerServer) -> None:
        """Whoever loops need not wait for itself if it stops the client by way of another task."""

        async def work() -> None:
            async with client(server) as mc, client(server) as other:
                await mc.send_message("jobs", 1, ack=1)
                async with asyncio.timeout(SECONDS):
                    async for _ in mc.messages("jobs"):
                        await asyncio.gather(mc.stop(), other.stop())
            assert server.stats().pending == 1

        asyncio.run(work())

    @pytest.mark.parametrize("leave", [True, False], ids=["left", "unsubscribed"])
    def test_the_client_stops_with_a_message_in_hand(self, server: MezzengerServer, *, leave: bool) -> None:
        """Nobody waits for an ack of what was taken from a loop that was left; it comes again."""

        async def work() -> None:
            async with client(server) as mc:
                await mc.send_message("jobs", 1, ack=1)
                async with mc.messages("jobs", ack="manual") as messages:
                    msg = await anext(aiter(messages))
                    if not leave:
                        await mc.unsubscribe("jobs")
                        await asyncio.wait_for(mc.stop(), SECONDS)
                assert msg.is_settled is not leave
                await asyncio.wait_for(mc.stop(), SECONDS)
                assert msg.is_settled
            assert server.stats().pending == 1

        asyncio.run(work())

    def test_a_second_loop(self, server: MezzengerServer) -> None:
        """Who loops again over the same messages subscribes again, and goes on where the first loop was left."""

        async def work() -> None:
            async with client(server) as mc:
                await mc.send_messages("jobs", range(3), ack=1)
                jobs = mc.messages("jobs")
                seen: list[int] = []
                async with asyncio.timeout(SECONDS):
                    while len(seen) < 3:
                        async with jobs:
                            async for msg in jobs:
                                seen.append(msg.payload)
                                break
            assert seen == [0, 1, 2]

        asyncio.run(work())

    def test_the_one_error_that_no_future_takes(self, server: MezzengerServer) -> None:
        """A StopIteration is raised where it was, and the message is nacked as with any other error."""

        async def work() -> None:
            async with client(server) as mc:
                await mc.send_message("jobs", 1, ack=1)
                with pytest.raises(RuntimeError) as told:  # what a coroutine makes of it
                    await self._take_one_and_raise(mc)
                assert isinstance(told.value.__cause__, StopIteration)
                await mc.flush()
                assert server.stats().nacked == 1
                async with mc.messages("jobs", ack="manual") as messages:
                    msg = await anext(aiter(messages))
                    await msg.nack(StopIteration(7))
                await mc.flush()
                assert server.stats().nacked == 2

        asyncio.run(work())

    async def _take_one_and_raise(self, mc: AsyncMezzenger) -> None:
        async with mc.messages("jobs") as messages:
            async for _ in messages:
                raise StopIteration  # as next() does, where there is nothing

    def test_as_a_member_and_answering(self, server: MezzengerServer) -> None:
        """It may be a member of a group, and answer requests."""

        async def work() -> None:
            async with client(server) as mc, client(server) as asking:

                async def serve() -> None:
                    async for msg in mc.messages("double", ack="manual", group="doublers"):
                        await msg.ack(msg.payload * 2)

                serving = asyncio.create_task(serve())
                while not [group async for group in asking.groups.list() if group.members]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert await asking.request("double", 21) == 42
                await mc.unsubscribe("double", group="doublers")
                await asyncio.wait_for(serving, SECONDS)

        asyncio.run(work())

    def test_the_client_stops(self, server: MezzengerServer) -> None:
        """The loop is given its time to finish with the message in hand, and ends."""

        async def work() -> None:
            handled: list[int] = []

            async def consume(mc: AsyncMezzenger) -> None:
                async for msg in mc.messages("jobs"):
                    await asyncio.sleep(0.1)
                    handled.append(msg.payload)

            async with client(server) as mc:
                consuming = asyncio.create_task(consume(mc))
                await mc.send_message("jobs", 1, ack=1)
                await until(lambda: mc.stats.received == 1)
                await asyncio.sleep(0.02)
                await mc.stop()
                assert handled == [1]
                await asyncio.wait_for(consuming, SECONDS)
            await until(lambda: server.stats().pending == 0)

        asyncio.run(work())

    def test_what_cannot_be(self, server: MezzengerServer) -> None:
        """Wrong arguments are refused before anything is subscribed."""
        mc = client(server)
        with pytest.raises(InvalidMembership, match="ack must be 'auto' or 'manual'"):
            mc.messages("jobs", ack="never")  # type: ignore[call-overload]  # that is the point
        for concurrency in (0, True, "2"):
            with pytest.raises(InvalidMembership, match="concurrency must be"):
                mc.messages("jobs", ack="manual", concurrency=concurrency)  # type: ignore[call-overload]  # likewise


class TestDecorators:
    """``@mc.on(...)`` and ``running()``, with both clients."""

    def test_threads(self, server: MezzengerServer) -> None:
        """What is decorated is subscribed when the client is running, and not before; then it is stopped."""
        mc = Mezzenger(send_port=server.recv_port, sub_port=server.pub_port, auto_start=False)

        @mc.on("orders.*", group="billing")
        def bill(payload: int, _msg: Message[int]) -> int:
            return payload + 1

        assert bill(1, Message(name="orders.a", payload=1, timestamp=0.0)) == 2
        with pytest.raises(NoResponders):
            mc.request("orders.new", 1)
        with mc.running() as same:
            assert same is mc
            with Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as other:
                assert other.request("orders.new", 1) == 2
        assert mc.stopped()

    def test_asyncio(self, server: MezzengerServer) -> None:
        """The same; the client connects when it is running."""

        async def work() -> None:
            mc = client(server)
            numbers = Channel("numbers.*", int)

            @mc.on(numbers, group="billing", concurrency=2)
            async def bill(payload: int, _msg: Message[int]) -> int:
                await asyncio.sleep(0)
                return payload + 1

            async with mc.running() as same:
                assert same is mc
                assert await mc.request("numbers.new", 1) == 2
            assert mc.stopped()

        asyncio.run(work())

    @pytest.mark.parametrize("kind", [Mezzenger, AsyncMezzenger])
    def test_what_cannot_be(self, kind: Any, server: MezzengerServer) -> None:
        """It is said where it is decorated."""
        mc = kind(send_port=server.recv_port, sub_port=server.pub_port, auto_start=False)
        with pytest.raises(InvalidMembership):
            mc.on("orders", prefetch=5)(lambda _payload, _msg: None)
        if kind is Mezzenger:
            mc.stop()
