"""The thread of a store."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from mezzenger.storage.worker import Worker

SECONDS = 10


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A thread that is ended."""
    worker = Worker("a-worker")
    yield worker
    worker.end()


def test_it_is_a_thread_of_its_own(worker: Worker) -> None:
    """Of that name, and the same for all that it does; what a function returns comes back."""

    async def work() -> list[str]:
        return [await worker.run(lambda: threading.current_thread().name) for _ in range(2)]

    assert asyncio.run(work()) == ["a-worker", "a-worker"]


def test_an_error_comes_back(worker: Worker) -> None:
    """Whatever it is; the thread goes on."""

    def fail(error: BaseException) -> None:
        raise error

    async def work() -> int:
        for error in (ValueError("no"), SystemExit(3)):
            with pytest.raises(type(error)) as caught:
                await worker.run(fail, error)
            assert caught.value is error
        return await asyncio.wait_for(worker.run(int, "7"), SECONDS)

    assert asyncio.run(work()) == 7


def test_things_are_done_in_order(worker: Worker) -> None:
    """One at a time, while the loop does others."""
    done: list[int] = []
    may_go_on = threading.Event()

    def first() -> None:
        may_go_on.wait(SECONDS)
        done.append(1)

    async def work() -> None:
        tasks = [asyncio.create_task(worker.run(first)), asyncio.create_task(worker.run(done.append, 2))]
        await asyncio.sleep(0)
        assert not done
        may_go_on.set()
        await asyncio.gather(*tasks)

    asyncio.run(work())
    assert done == [1, 2]


@pytest.mark.parametrize("fails", [False, True])
def test_who_waits_may_give_up(worker: Worker, fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What was asked for is done all the same, and its result is nobody's."""
    done: list[int] = []
    may_go_on = threading.Event()

    def first() -> None:
        may_go_on.wait(SECONDS)
        done.append(1)
        if fails:
            raise ValueError

    async def work() -> None:
        task = asyncio.create_task(worker.run(first))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_go_on.set()
        await worker.run(done.append, 2)

    asyncio.run(work())
    assert done == [1, 2]
    assert not caplog.records


def test_the_loop_may_have_ended(worker: Worker) -> None:
    """Then nobody is told, and the next loop finds the thread as it was."""
    may_go_on = threading.Event()

    async def leave() -> None:
        task = asyncio.create_task(worker.run(may_go_on.wait, SECONDS))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    may_go_on.set()
    assert asyncio.run(asyncio.wait_for(worker.run(int, "7"), SECONDS)) == 7


def test_an_end_waits_for_what_was_asked_for() -> None:
    """After it nothing is done any more, and whoever asks is told; what never began can be ended too."""
    worker = Worker("a-worker")
    done: list[int] = []

    async def leave() -> None:
        tasks = [asyncio.create_task(worker.run(done.append, number)) for number in range(100)]
        await asyncio.sleep(0)
        worker.end()
        assert done == list(range(100))
        assert "a-worker" not in {thread.name for thread in threading.enumerate()}
        await asyncio.gather(*tasks)
        with pytest.raises(RuntimeError, match="the thread a-worker has ended"):
            await worker.run(int, "7")

    asyncio.run(leave())
    Worker("another").end()
