"""Any thread may send at any time, and nothing is lost on the way to what sends."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import pytest

from mezzenger import ClientSettings, MessageTooLarge, MezzengerError, ServerUnreachable
from mezzenger.client.gatherer import Gatherer
from mezzenger.client.line import socket_line
from mezzenger.client.now import run_now
from mezzenger.client.payloads import Payloads
from mezzenger.client.runner import Runner, Waiter
from mezzenger.codecs import PICKLE
from mezzenger.protocol.gathering import MAX_PAYLOAD
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.states import Identity, SessionOptions

R = TypeVar("R")


class Recorder(Runner):
    """Takes note of what it is to send."""

    is_attended = True

    def __init__(self) -> None:
        options = SessionOptions("nowhere", 1.0, 1.0, 1.0, 1.0, 1.0, 1)
        session = ClientSession(Identity(1, b""), options, random_token=lambda: b"", jitter=lambda: 0.0)
        super().__init__(session, socket_line(session, ClientSettings()))
        self.payloads: list[object] = []
        self.frames = 0
        self.takes_large = True
        self.waiters: list[Waiter] = []
        """What ``publish`` returns; those of what could not be sent."""

    def run(self, request: Callable[[ClientSession, float], R]) -> R:
        """Nobody asks for this."""
        raise NotImplementedError

    def submit(self, request: Callable[[ClientSession, float], int | None]) -> Waiter | None:
        """Nobody asks for this."""
        raise NotImplementedError

    def publish(self, drafts: Sequence[Draft | MixedDraft], _patience: float) -> Sequence[Waiter]:
        """Take note of all messages, or raise what a session would."""
        for draft in drafts:
            for _, encoded in draft.items:
                if len(encoded) > MAX_PAYLOAD and not self.takes_large:
                    raise MessageTooLarge("too large")
                self.payloads.append(PICKLE.loads(encoded))
            self.frames += 1
        return self.waiters

    def wake_by(self, deadline: float) -> None:
        """Do nothing: who tests asks often enough."""


class Failed(Waiter):
    """Waits for what is never sent.

    Args:
        messages: How many that are.
        error: What is raised; a KeyboardInterrupt for one who gives up waiting.
    """

    def __init__(self, messages: int, error: BaseException) -> None:
        super().__init__()
        self.messages = messages
        self.raises = error

    async def wait(self) -> None:
        self.is_done = isinstance(self.raises, MezzengerError)
        raise self.raises

    def abandon(self) -> None:
        """Nobody asks for this."""
        raise NotImplementedError

    def notify(self) -> None:
        """Do nothing: nobody waits meanwhile."""


@pytest.fixture
def restless() -> Iterator[None]:
    """Have threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_threads_lose_nothing() -> None:
    """Several send while another one has leave what is due: all leave, those of each thread in order."""
    recorder = Recorder()
    gatherer = Gatherer(Payloads(ClientSettings()), recorder, lambda _: None, 1.0)
    are_over = threading.Event()
    threads, each = 4, 5000

    def send(thread: int) -> None:
        for number in range(each):
            assert gatherer.send(f"a.{number // 100 % 3}", (thread, number)) is None

    def lead() -> None:
        while not are_over.is_set():
            gatherer.leave_if_due()

    senders = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
    leader = threading.Thread(target=lead)
    for one in (leader, *senders):
        one.start()
    for one in senders:
        one.join()
    # No flush: what is not known to wait would stay for ever.
    while gatherer.leave_if_due() is not None:
        pass
    are_over.set()
    leader.join()
    assert len(recorder.payloads) == threads * each > recorder.frames
    for thread in range(threads):
        assert [payload for payload in recorder.payloads if payload[0] == thread] == [  # type: ignore[index]  # pairs
            (thread, number) for number in range(each)
        ]


def test_who_sends_what_is_too_large_is_told() -> None:
    """And nobody else: what waits leaves before it."""
    recorder = Recorder()
    recorder.takes_large = False
    gatherer = Gatherer(Payloads(ClientSettings()), recorder, lambda _: None, 1.0)
    for number in range(3):
        gatherer.send("a", number)
    with pytest.raises(MessageTooLarge):
        gatherer.send("a", bytes(MAX_PAYLOAD + 1))
    gatherer.leave()
    run_now(gatherer.settle())
    assert recorder.payloads == [0, 1, 2]


def test_all_that_was_not_sent_is_told() -> None:
    """One error tells of it, with the number of messages of each frame; a lone message needs none."""
    recorder = Recorder()
    recorder.waiters = [Failed(messages, ServerUnreachable("no answer")) for messages in (3, 1, 2)]
    gatherer = Gatherer(Payloads(ClientSettings()), recorder, lambda _: None, 1.0)
    gatherer.leave()
    assert gatherer.unsent() == 6
    with pytest.raises(ServerUnreachable) as told:
        run_now(gatherer.settle())
    assert told.value.__notes__ == [f"{number} messages that were to leave together were not sent" for number in (3, 2)]
    assert gatherer.unsent() == 0
    run_now(gatherer.settle())


def test_what_has_failed_and_was_not_told() -> None:
    """It counts among what was not sent, until a call tells of it."""
    recorder, failed = Recorder(), Failed(3, ServerUnreachable("no answer"))
    recorder.waiters = [failed]
    gatherer = Gatherer(Payloads(ClientSettings()), recorder, lambda _: None, 1.0)
    gatherer.leave()
    failed.finish(ServerUnreachable("no answer"), None)
    assert gatherer.unsent() == 3
    with pytest.raises(ServerUnreachable):
        run_now(gatherer.check())
    assert gatherer.unsent() == 0


def test_what_failed_before_an_interrupt_is_told_later() -> None:
    """Who does not wait to the end leaves the error to the next call, with those who still wait."""
    recorder = Recorder()
    recorder.waiters = [Failed(3, ServerUnreachable("no answer")), Failed(4, KeyboardInterrupt())]
    gatherer = Gatherer(Payloads(ClientSettings()), recorder, lambda _: None, 1.0)
    gatherer.leave()
    with pytest.raises(KeyboardInterrupt):
        run_now(gatherer.settle())
    assert gatherer.unsent() == 4
    with pytest.raises(ServerUnreachable, match="no answer"):
        run_now(gatherer.check())
