"""A server and its clients in memory behave as the real ones do, without a socket, a thread, or real time."""

import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from mezzenger import (
    ChannelSettings,
    ClientSettings,
    ConfigurationError,
    Message,
    Mezzenger,
    MezzengerError,
    NoResponders,
    PayloadNotEncodable,
    RemoteError,
    RequestTimeout,
    ServerSettings,
    ServerUnreachable,
    Settings,
    State,
    StorageError,
)
from mezzenger.testing import FakeClock, Link

Seen = list[tuple[object, int]]


def noted(seen: Seen) -> Callable[[object, Message[object]], None]:
    """Return a callback that notes payload and attempt."""
    return lambda payload, msg: seen.append((payload, msg.attempt))


def fail(payload: object, _msg: Message[object]) -> None:
    raise ValueError(f"cannot handle {payload!r}")


class TestMessages:
    @pytest.mark.parametrize("ack", [0, 1])
    def test_a_callback_runs_when_all_settles(self, mezzenger_memory: Link, ack: int) -> None:
        """And not within send_message: that returns when the server has the message."""
        seen: Seen = []
        publisher, subscriber = mezzenger_memory.client(), mezzenger_memory.client()
        subscriber.subscribe("greetings", noted(seen))
        publisher.send_message("greetings", "Hello!", ack=ack)
        assert seen == []
        mezzenger_memory.settle()
        assert seen == [("Hello!", 1)]
        assert mezzenger_memory.stats().acked == ack

    def test_payloads_are_written_and_read(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """What arrives is another object, and what cannot be pickled cannot be sent."""
        seen: Seen = []
        payload = {"number": [7]}
        mezzenger_memory_client.subscribe("orders", noted(seen))
        mezzenger_memory_client.send_message("orders", payload)
        mezzenger_memory.settle()
        ((arrived, _),) = seen
        assert arrived == payload
        assert arrived is not payload
        with pytest.raises(PayloadNotEncodable):
            mezzenger_memory_client.send_message("orders", threading.Lock())

    def test_names_and_patterns(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """A prefix that two patterns share is subscribed to until neither wants it; others hear nothing."""
        seen: Seen = []
        subscriber = mezzenger_memory.client()
        subscriber.subscribe("orders.*", noted(seen))
        subscriber.subscribe("orders.>", noted([]))
        mezzenger_memory.client().subscribe("other", fail)
        subscriber.unsubscribe("orders.>")
        mezzenger_memory_client.send_message("orders.new", 1)
        mezzenger_memory.settle()
        assert seen == [(1, 1)]
        subscriber.unsubscribe("orders.*")
        mezzenger_memory_client.send_message("orders.new", 2)
        mezzenger_memory.settle()
        assert seen == [(1, 1)]
        assert mezzenger_memory.stats().dropped == {"no_subscriber": 1}

    def test_many_at_once(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """Batches, and more stored messages than the broker keeps in memory."""
        seen: Seen = []
        assert mezzenger_memory_client.send_messages("numbers", range(10_000), ack=1) == 10_000
        mezzenger_memory_client.subscribe("numbers", noted(seen))
        mezzenger_memory.settle()
        assert seen == [(number, 1) for number in range(10_000)]
        assert mezzenger_memory.stats().pending == 0

    def test_no_socket_and_no_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither is made, from the first client to the end."""

        def refuse(*_arguments: object, **_more: object) -> None:
            raise AssertionError("this needs a socket")

        monkeypatch.setattr(zmq.Context, "socket", refuse)
        monkeypatch.setattr(socket, "socketpair", refuse)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with Link() as link:
            client = link.client()
            client.subscribe("double", lambda payload, _msg: 2 * payload)
            assert client.request("double", 4) == 8
            client.send_message("double", 4, ack=1)
            link.advance("1h")


class TestTime:
    def test_redelivery(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """A message that is nacked comes again after 1, 2, 4, ... seconds, to the moment."""
        start = mezzenger_memory.clock.now
        attempts: list[float] = []

        def note_and_fail(payload: object, msg: Message[object]) -> None:
            attempts.append(mezzenger_memory.clock.now - start)
            fail(payload, msg)

        mezzenger_memory_client.subscribe("jobs", note_and_fail)
        mezzenger_memory_client.send_message("jobs", 3, ack=1)
        mezzenger_memory.advance("31s")
        assert attempts == pytest.approx([0, 1, 3, 7, 15, 31])

    def test_a_dead_letter(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """After 20 attempts, and all the pauses between them; it can be shown, and sent again."""
        seen: Seen = []
        mezzenger_memory_client.subscribe("jobs", fail)
        mezzenger_memory_client.send_message("jobs", 3, ack=1)
        mezzenger_memory.advance("20m")
        (letter,) = mezzenger_memory_client.dead.list("jobs")
        assert letter.attempts == 20
        assert letter.error.startswith("ValueError: cannot handle 3")
        assert letter.buried - letter.timestamp == pytest.approx(1 + 2 + 4 + 8 + 16 + 32 + 13 * 60, abs=2)
        mezzenger_memory_client.unsubscribe("jobs")
        mezzenger_memory_client.subscribe("jobs", noted(seen))
        assert mezzenger_memory_client.dead.resend(letter.number) == 1
        mezzenger_memory.settle()
        assert seen == [(3, 1)]

    def test_time_to_live(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """What has expired is delivered no more; a moment earlier it is."""
        seen: Seen = []
        for payload, ttl in (("old", 30), ("new", 31)):
            mezzenger_memory_client.send_message("news", payload, ack=1, ttl=ttl)
        mezzenger_memory.advance("30.5s")
        mezzenger_memory_client.subscribe("news", noted(seen))
        mezzenger_memory.settle()
        assert seen == [("new", 1)]
        assert mezzenger_memory.stats().dropped == {"expired": 1}

    def test_delay(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """It is delivered at its moment, and not before."""
        seen: Seen = []
        mezzenger_memory_client.subscribe("alarms", noted(seen))
        mezzenger_memory_client.send_message("alarms", "now", ack=1, delay=60)
        mezzenger_memory.advance("59.999s")
        assert seen == []
        mezzenger_memory.advance(0.001)
        assert seen == [("now", 1)]

    def test_a_quiet_day(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """Heartbeats are answered, so nothing breaks; what is sent after it arrives."""
        seen: Seen = []
        mezzenger_memory_client.subscribe("news", noted(seen))
        mezzenger_memory.advance("1d")
        mezzenger_memory.client(heartbeat_interval=1.0, heartbeat_timeout=3.0).send_message("news", "new")
        mezzenger_memory.advance("1m")
        mezzenger_memory_client.send_message("news", "newer")
        mezzenger_memory.settle()
        assert seen == [("new", 1), ("newer", 1)]
        assert mezzenger_memory_client.state is State.OPEN
        assert mezzenger_memory_client.stats.malformed == {}
        assert mezzenger_memory.stats().peers == 2

    def test_sums_of_times(self) -> None:
        """What is due when the steps have passed is done, though they make less when they are added."""
        assert 0.1 + 0.7 < 0.8
        seen: Seen = []
        with Link(clock=FakeClock(0.0)) as link:
            client = link.client()
            client.subscribe("alarms", noted(seen))
            client.send_message("alarms", "now", ack=1, delay=0.8)
            link.advance(0.1)
            link.advance(0.7)
            assert seen == [("now", 1)]

    def test_a_clock_of_ones_own(self) -> None:
        """It can be shared with what else the test needs it for."""
        clock = FakeClock(100.0)
        with Link(clock=clock) as link:
            link.advance("1m")
            assert clock() == clock.now == 160.0

    def test_an_alarm(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """It may do what a test may: break something, send and wait, and have time pass, at its moment."""
        start = mezzenger_memory.clock.now
        mezzenger_memory.clock.after(5, lambda: mezzenger_memory.cut(mezzenger_memory_client))
        mezzenger_memory.clock.after(6, lambda: mezzenger_memory_client.send_message("jobs", 1, ack=1))
        mezzenger_memory.clock.after(7, lambda: mezzenger_memory.advance("1s"))
        mezzenger_memory.advance("5s")
        assert mezzenger_memory_client.state is State.RECONNECTING
        mezzenger_memory.advance("5s")
        assert mezzenger_memory.clock.now - start == pytest.approx(10)
        assert mezzenger_memory.stats().stored == 1

    @pytest.mark.parametrize("bad", ["soon", -1, "-1s", float("nan"), float("inf")], ids=repr)
    def test_a_bad_duration(self, mezzenger_memory: Link, bad: float | str) -> None:
        """It is an error that says what a duration looks like."""
        with pytest.raises(ConfigurationError, match=r"duration: .* \(got "):
            mezzenger_memory.advance(bad)


class TestWaiting:
    def test_a_request(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """Who waits for an answer runs the callback that gives it; what that raises is told."""
        responder = mezzenger_memory.client()
        responder.subscribe("divide", lambda payload, _msg: payload[0] / payload[1])
        assert mezzenger_memory_client.request("divide", [6, 3]) == 2
        with pytest.raises(RemoteError, match="ZeroDivisionError"):
            mezzenger_memory_client.request("divide", [6, 0])
        with pytest.raises(NoResponders):
            mezzenger_memory_client.request("multiply", [6, 3])

    def test_a_request_within_a_callback(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """Another client answers; the own one cannot, for it runs one callback at a time."""
        other = mezzenger_memory.client()
        answers: list[object] = []

        def ask(payload: str, _msg: Message[str]) -> None:
            try:
                answers.append(mezzenger_memory_client.request(payload, None))
            except NoResponders as error:
                answers.append(type(error))

        mezzenger_memory_client.subscribe("questions", ask)
        mezzenger_memory_client.subscribe("own", lambda _payload, _msg: "mine")
        other.subscribe("other", lambda _payload, _msg: "yours")
        for name in ("other", "own"):
            mezzenger_memory_client.send_message("questions", name, ack=1)
        mezzenger_memory.settle()
        assert answers == ["yours", NoResponders]

    def test_an_answer_that_does_not_come(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """Time passes for who waits, to the deadline, and no further."""
        slow = mezzenger_memory.client()
        slow.subscribe("sleep", lambda _payload, _msg: mezzenger_memory.advance("1m"))
        start = mezzenger_memory.clock.now
        late = mezzenger_memory.client(auto_start=False)
        late.subscribe("never", fail)
        with pytest.raises(RequestTimeout, match="within 5 s"):
            mezzenger_memory_client.request("never", 1, timeout=5)
        assert mezzenger_memory.clock.now - start == pytest.approx(5)
        with pytest.raises(RequestTimeout):
            mezzenger_memory_client.request("sleep", 1, timeout=5)

    def test_receiving_begins_with_start(self, mezzenger_memory: Link) -> None:
        """With auto_start=False no callback runs before that."""
        seen: Seen = []
        client = mezzenger_memory.client(auto_start=False)
        client.subscribe("greetings", noted(seen))
        client.send_message("greetings", "Hello!")
        mezzenger_memory.advance("1m")
        assert seen == []
        client.start()
        mezzenger_memory.settle()
        assert seen == [("Hello!", 1)]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, pytest.fail.Exception, pytest.skip.Exception])
    @pytest.mark.parametrize("ack", [0, 1])
    def test_a_callback_that_ends_the_test(
        self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger, kind: type[BaseException], ack: int
    ) -> None:
        """What ends a test does so in a callback, too; what it was given, and the rest of its batch, is nacked."""
        seen: Seen = []
        ends = [kind("enough")]

        def end_once(payload: object, msg: Message[object]) -> None:
            seen.append((payload, msg.attempt))
            if ends:
                raise ends.pop()

        mezzenger_memory_client.subscribe("jobs", end_once)
        mezzenger_memory_client.send_messages("jobs", [1, 2], ack=ack)
        with pytest.raises(kind, match="enough"):
            mezzenger_memory.settle()
        assert seen == [(1, 1)]
        assert mezzenger_memory_client.stats.failed == 2
        mezzenger_memory.advance("1s")
        assert seen == [(1, 1), (1, 2), (2, 2)][: 1 + 2 * ack]

    def test_a_callback_that_ends_the_test_of_who_asks(
        self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger
    ) -> None:
        """It does so from within the call that has it run, whatever it was to return."""
        ends = [KeyboardInterrupt("enough")]

        def end_once(payload: int, _msg: Message[int]) -> int:
            if ends:
                raise ends.pop()
            return 2 * payload

        mezzenger_memory.client().subscribe("double", end_once)
        with pytest.raises(KeyboardInterrupt, match="enough"):
            mezzenger_memory_client.request("double", 4)
        assert mezzenger_memory_client.request("double", 4) == 8

    def test_a_client_that_is_stopped_by_its_callback(self, mezzenger_memory: Link) -> None:
        """It finishes that callback, acknowledges, and begins no other one."""
        seen: Seen = []
        client = mezzenger_memory.client()

        def stop(payload: object, msg: Message[object]) -> None:
            client.stop()
            noted(seen)(payload, msg)

        client.subscribe("jobs", stop)
        client.send_messages("jobs", [1], ack=1)
        client.send_messages("jobs", [2], ack=1)
        mezzenger_memory.settle()
        assert (seen, client.state) == ([(1, 1)], State.CLOSED)
        assert (mezzenger_memory.stats().acked, mezzenger_memory.stats().pending) == (1, 1)

    def test_callbacks_without_end(
        self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A callback that sends itself a message at once is told of, and does not hang the test."""
        monkeypatch.setattr("mezzenger.testing.works._ENDLESS", 100)
        mezzenger_memory_client.subscribe(
            "again", lambda _payload, msg: mezzenger_memory_client.send_message(msg.name, 1)
        )
        mezzenger_memory_client.send_message("again", 1)
        with pytest.raises(MezzengerError, match="no end after 100 messages"):
            mezzenger_memory.settle()
        mezzenger_memory_client.unsubscribe("again")

    def test_many_callbacks(
        self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There is an end to them, however many they are: they send nothing that makes another one run."""
        monkeypatch.setattr("mezzenger.testing.works._ENDLESS", 100)
        seen: Seen = []
        for number in range(300):
            mezzenger_memory_client.send_message("jobs", number, ack=1)
        mezzenger_memory_client.subscribe("jobs", noted(seen))
        mezzenger_memory.settle()
        assert seen == [(number, 1) for number in range(300)]

    def test_threads(self, mezzenger_memory: Link) -> None:
        """Any thread may send and ask; nothing is lost between them."""
        seen: Seen = []
        subscriber, asker = mezzenger_memory.client(), mezzenger_memory.client()
        subscriber.subscribe("numbers", noted(seen))
        subscriber.subscribe("double", lambda payload, _msg: 2 * payload)
        results: list[object] = []

        def work(number: int) -> None:
            for step in range(20):
                asker.send_message("numbers", number * 20 + step, ack=1)
                results.append(asker.request("double", step))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        mezzenger_memory.settle()
        assert sorted(seen) == [(number, 1) for number in range(80)]
        assert sorted(map(str, results)) == sorted(str(2 * step) for step in range(20) for _ in range(4))

    def test_a_callback_on_another_thread(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """However long it really takes, by the clock it takes no time."""
        has_begun, may_end = threading.Event(), threading.Event()
        busy = mezzenger_memory.client()

        def hold(_payload: object, _msg: Message[object]) -> None:
            has_begun.set()
            assert may_end.wait(30)

        busy.subscribe("hold", hold)
        busy.subscribe("quick", lambda payload, _msg: payload)
        busy.send_message("hold", None)
        thread = threading.Thread(target=mezzenger_memory.settle)
        thread.start()
        assert has_begun.wait(30)
        threading.Timer(0.2, may_end.set).start()
        start = mezzenger_memory.clock.now
        assert mezzenger_memory_client.request("quick", 1, timeout=1) == 1
        assert mezzenger_memory.clock.now == start
        thread.join(30)

    @pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
    def test_a_client_whose_callback_runs_on_another_thread(self, mezzenger_memory: Link, is_killed: bool) -> None:
        """Who stops it waits for the callback, and its ack is not lost; who kills it does not, and it is."""
        has_begun, may_end = threading.Event(), threading.Event()
        done: list[object] = []
        client = mezzenger_memory.client()

        def hold(payload: object, _msg: Message[object]) -> None:
            has_begun.set()
            assert may_end.wait(30)
            done.append(payload)

        client.subscribe("hold", hold)
        client.send_message("hold", 1, ack=1)
        thread = threading.Thread(target=mezzenger_memory.settle)
        thread.start()
        assert has_begun.wait(30)
        if is_killed:
            mezzenger_memory.kill(client)
            assert done == []
            may_end.set()
        else:
            threading.Timer(0.2, may_end.set).start()
            client.stop()
            assert done == [1]
        thread.join(30)
        assert client.state is State.CLOSED
        assert (mezzenger_memory.stats().acked, mezzenger_memory.stats().pending) == (not is_killed, is_killed)


class TestFaults:
    def test_an_ack_is_lost(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """The message is delivered again; who has handled it recognises it, and does not handle it twice."""
        seen: Seen = []
        mezzenger_memory_client.subscribe("jobs", noted(seen))
        mezzenger_memory_client.send_message("jobs", 3, ack=1)
        mezzenger_memory.drop_next_ack()
        mezzenger_memory.settle()
        assert mezzenger_memory.stats().acked == 0
        mezzenger_memory.advance("1s")
        assert seen == [(3, 1)]
        assert mezzenger_memory_client.stats.duplicates == 1
        assert (mezzenger_memory.stats().redelivered, mezzenger_memory.stats().acked) == (1, 1)

    def test_nothing_but_an_ack_is_lost(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """Who publishes meanwhile, or subscribes, keeps its connection."""
        subscriber, publisher = mezzenger_memory.client(), mezzenger_memory_client
        mezzenger_memory.drop_next_ack()
        subscriber.subscribe("jobs", lambda _payload, _msg: None)
        publisher.send_message("jobs", 1)
        mezzenger_memory.settle()
        publisher.send_message("jobs", 2, ack=1)
        assert (publisher.state, subscriber.state) == (State.OPEN, State.OPEN)
        mezzenger_memory.settle()
        assert (publisher.state, subscriber.state) == (State.OPEN, State.RECONNECTING)

    def test_an_ack_of_a_member_is_lost(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """Another member of its group has the message, and can see that it may have been handled before."""
        seen: Seen = []
        for _ in range(2):
            mezzenger_memory.client().subscribe("jobs", noted(seen), group="workers")
        mezzenger_memory_client.send_message("jobs", 3, ack=1)
        mezzenger_memory.drop_next_ack()
        mezzenger_memory.advance("1s")
        assert seen == [(3, 1), (3, 2)]

    def test_a_client_is_cut_off(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """It connects again by itself, and is subscribed as before."""
        seen: Seen = []
        mezzenger_memory_client.subscribe("news", noted(seen))
        mezzenger_memory.cut(mezzenger_memory_client)
        states = [mezzenger_memory_client.state]
        assert mezzenger_memory.stats().peers == 0
        mezzenger_memory.advance("1s")
        states.append(mezzenger_memory_client.state)
        assert states == [State.RECONNECTING, State.OPEN]
        mezzenger_memory.client().send_message("news", "new")
        mezzenger_memory.settle()
        assert seen == [("new", 1)]

    def test_what_is_under_way_is_lost(self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger) -> None:
        """What was sent and has not arrived when a connection breaks never does; the client knows of it."""
        seen: Seen = []
        subscriber = mezzenger_memory.client()
        subscriber.subscribe("news", noted(seen))
        mezzenger_memory_client.send_message("news", "lost on its way in")
        mezzenger_memory.cut(mezzenger_memory_client)
        mezzenger_memory.advance("1s")
        assert seen == []
        assert mezzenger_memory_client.stats.uncertain == 1
        assert mezzenger_memory.stats().published == 0
        with pytest.raises(ServerUnreachable, match="may be lost"):
            mezzenger_memory_client.flush()

    def test_the_log_tells_of_it(
        self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A client says when its connection is lost, and when it has another one."""
        caplog.set_level("INFO", "mezzenger.client")
        mezzenger_memory.cut(mezzenger_memory_client, "1m")
        mezzenger_memory.advance("2m")
        assert [text.split(" (")[0] for text in caplog.messages] == ["the connection is lost", "connected"]

    def test_the_log_is_sent_on(
        self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A handler of the log may send with the client whose connection is lost, and wait for the server."""
        caplog.set_level("INFO", "mezzenger.client")

        class SendsOn(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                mezzenger_memory_client.send_message("log", record.getMessage(), ack=1)

        handler = SendsOn()
        logging.getLogger("mezzenger.client").addHandler(handler)
        try:
            mezzenger_memory.cut(mezzenger_memory_client)
            mezzenger_memory.advance("10s")
        finally:
            logging.getLogger("mezzenger.client").removeHandler(handler)
        seen: list[str] = []
        mezzenger_memory_client.subscribe("log", lambda payload, _msg: seen.append(payload.split(" (")[0]))
        mezzenger_memory.settle()
        assert sorted(seen) == ["connected", "the connection is lost"]

    def test_a_client_is_cut_off_for_long(self, mezzenger_memory: Link) -> None:
        """It raises when its patience is at an end, by the clock; afterwards it is served again."""
        client = mezzenger_memory.client(send_timeout=2, connection_retries=5)
        mezzenger_memory.cut(client, "1m")
        start = mezzenger_memory.clock.now
        with pytest.raises(ServerUnreachable, match="the connection was refused"):
            client.send_message("jobs", 3, ack=1)
        assert mezzenger_memory.clock.now - start == pytest.approx(12)
        mezzenger_memory.advance("1m")
        client.send_message("jobs", 3, ack=1)

    def test_a_client_is_killed_by_its_callback(
        self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger
    ) -> None:
        """What it was handling comes to another one, marked; the rest it had not begun does, too."""
        seen: Seen = []
        victim, heir = mezzenger_memory.client(), mezzenger_memory.client()

        def die(payload: object, msg: Message[object]) -> None:
            seen.append(("victim", msg.attempt))
            mezzenger_memory.kill(victim)

        victim.subscribe("jobs", die, group="workers")
        for number in (1, 2):
            mezzenger_memory_client.send_message("jobs", number, ack=1)
        mezzenger_memory.settle()
        assert (seen, victim.state, mezzenger_memory.stats().acked) == ([("victim", 1)], State.CLOSED, 0)
        heir.subscribe("jobs", noted(seen), group="workers")
        mezzenger_memory.settle()
        assert seen == [("victim", 1), (1, 2), (2, 2)]

    @pytest.mark.parametrize("has_file", [False, True])
    def test_a_crash(self, tmp_path: Path, has_file: bool) -> None:
        """What was stored is kept in the persist file, or lost without one; clients come back either way."""
        seen: Seen = []
        file = tmp_path / "messages.db" if has_file else None
        with Link(Settings(server=ServerSettings(persist_file=file))) as link:
            client = link.client()
            client.send_message("jobs", "before", ack=1)
            link.crash_and_restart()
            client.send_message("jobs", "after", ack=1)
            client.subscribe("jobs", noted(seen))
            link.settle()
        assert seen == [("before", 1), ("after", 1)][not has_file :]

    @pytest.mark.parametrize("has_crashed", [False, True])
    def test_what_was_not_committed(self, tmp_path: Path, has_crashed: bool) -> None:
        """An ack that waits for the next commit is lost in a crash, and not if the server is closed."""
        seen: Seen = []
        settings = Settings(server=ServerSettings(persist_file=tmp_path / "messages.db"))
        with Link(settings) as link:
            first = link.client()
            first.subscribe("jobs", noted(seen))
            first.send_message("jobs", 3, ack=1)
            link.settle()
            assert (seen, link.stats().pending) == ([(3, 1)], 0)
            link.kill(first)
            if has_crashed:
                link.crash_and_restart()
        with Link(settings) as link:
            link.client().subscribe("jobs", noted(seen))
            link.settle()
        assert seen == [(3, 1), (3, 2)][: 1 + has_crashed]

    def test_a_server_that_is_down_for_a_while(
        self, mezzenger_memory: Link, mezzenger_memory_client: Mezzenger
    ) -> None:
        """Who sends meanwhile waits for it, and the clock goes on until it is there."""
        start = mezzenger_memory.clock.now
        mezzenger_memory.crash_and_restart(down="5s")
        with pytest.raises(MezzengerError, match="down already"):
            mezzenger_memory.crash_and_restart()
        with pytest.raises(MezzengerError, match="does not run"):
            mezzenger_memory.stats()
        mezzenger_memory_client.send_message("jobs", 3, ack=1)
        assert 5 <= mezzenger_memory.clock.now - start < 12
        assert mezzenger_memory.stats().stored == 1

    def test_a_client_of_another_link(self, mezzenger_memory: Link) -> None:
        """It is an error, not a fault of somebody else."""
        with Link() as other:
            stranger = other.client()
            with pytest.raises(MezzengerError, match="not one of this link"):
                mezzenger_memory.cut(stranger)
            with pytest.raises(MezzengerError, match="not one of this link"):
                mezzenger_memory.kill(stranger)


class TestSettings:
    def test_of_channels(self) -> None:
        """They hold as they do for any server."""
        settings = Settings(channels={"news": ChannelSettings(ttl=10), "last": ChannelSettings(retain="last")})
        seen: Seen = []
        with Link(settings) as link:
            client = link.client()
            client.send_message("news", "old", ack=1)
            client.send_message("last", "value")
            link.advance("11s")
            client.subscribe("news", noted(seen))
            client.subscribe("last", noted(seen))
            link.settle()
            assert seen == [("value", 1)]

    def test_of_clients(self) -> None:
        """Those of the link, where a client is not told otherwise."""
        settings = Settings.model_validate({"client": {"codec": "json", "send_timeout": "3s"}})
        with Link(settings) as link:
            client = link.client(send_timeout=1.0)
            assert (client.settings.codec, client.settings.send_timeout) == ("json", 1.0)
            with pytest.raises(ConfigurationError, match=r"client\.codec"):
                link.client(codec="xml")

    @pytest.mark.parametrize("key", ["heartbeat_interval", "heartbeat_timeout"])
    def test_heartbeats(self, key: str) -> None:
        """What holds for any other client does here: one of the two settings may be given alone."""
        usual = getattr(ClientSettings(), key) * 2
        with Link(Settings.model_validate({"client": {key: usual}})) as link:
            for client in (link.client(), link.client(**{key: usual})):
                assert client.settings == ClientSettings(
                    send_port=client.settings.send_port, sub_port=client.settings.sub_port, **{key: usual}
                )
            with pytest.raises(ConfigurationError, match="heartbeat_timeout"):
                link.client(heartbeat_timeout=1, heartbeat_interval=2)

    def test_a_file_that_cannot_be_used(self, tmp_path: Path) -> None:
        """It is refused, as by any server; as soon as it can be used, another link does so."""
        file = tmp_path / "messages.db"
        settings = Settings(server=ServerSettings(persist_file=file))
        file.write_text("no database, by far" * 100)
        for _ in range(2):
            with pytest.raises(StorageError, match="is not a database"):
                Link(settings)
        file.unlink()
        Link(settings).close()
