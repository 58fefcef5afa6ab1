"""The promises of docs/guarantees, each broken on purpose by stopping, killing or freezing a real process."""

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

from mezzenger import MezzengerServer, State
from tests.integration.conftest import Connect, both_clients, only_threads
from tests.integration.processes import free_ports, patient, read_line, running, server_process, slow_road, wait_for

pytestmark = both_clients

COUNTING_SUBSCRIBERS = """
import os, sys, threading
from mezzenger import ClientSettings, Mezzenger

def work(expected):
    numbers, complete = set(), threading.Event()

    def count(payload, msg_obj):
        numbers.add(payload)
        if len(numbers) == expected:
            complete.set()

    ports = {"send_port": int(sys.argv[1]), "sub_port": int(sys.argv[2])}
    settings = ClientSettings(**ports, connection_retries=20, heartbeat_timeout=60)
    with Mezzenger(settings=settings) as mc:
        mc.subscribe("numbers", count)
        os.write(1, b"%d\\n" % os.getpid())
        complete.wait()
        os.write(1, b"%d\\n" % os.getpid())

# Forked, for to load Python and the library a hundred times would take most of the test's time.
for _ in range(int(sys.argv[3])):
    if os.fork() == 0:
        try:
            work(int(sys.argv[4]))
        finally:
            os._exit(0)
sys.stdin.read()
"""


@only_threads
def test_subscribe_then_publish_loses_nothing(connect: Connect) -> None:
    """P5: 10,000 times, what another client publishes right after subscribe() has returned arrives."""
    subscriber, publisher = connect(), connect()
    arrived: list[object] = []
    for number in range(10_000):
        subscriber.subscribe(f"fresh.{number}", lambda payload, _msg: arrived.append(payload))
        publisher.send_message(f"fresh.{number}", number)
    wait_for(lambda: len(arrived) == 10_000)
    assert sorted(map(str, arrived)) == sorted(map(str, range(10_000)))


def test_subscribe_waits_for_a_slow_road(server: MezzengerServer, connect: Connect) -> None:
    """P5: the same when subscriptions take 50 ms to the server's pub_port, while commands travel fast."""
    arrived: list[object] = []
    with slow_road(server.pub_port, 0.05) as sub_port:
        subscriber, publisher = connect(sub_port=sub_port), connect()
        for number in range(20):
            subscriber.subscribe(f"fresh.{number}", lambda payload, _msg: arrived.append(payload))
            publisher.send_message(f"fresh.{number}", number)
        wait_for(lambda: arrived == list(range(20)))
        subscriber.stop()


@only_threads
def test_a_stopped_subscriber_slows_nobody(tmp_path: Path) -> None:
    """P1: of 100 subscriber processes one is frozen; the 99 others receive all of 20,000 messages."""
    ports, count = free_ports(), 20_000
    with ExitStack() as stack:
        # A hundred busy processes on few cores leave the server too little time to answer within three seconds.
        stack.enter_context(server_process(ports, tmp_path / "log", heartbeat_timeout=60))
        subscribers = stack.enter_context(running(COUNTING_SUBSCRIBERS, *ports, 100, count))
        pids = [int(read_line(subscribers)) for _ in range(100)]
        for pid in pids:
            stack.callback(os.kill, pid, signal.SIGKILL)
        os.kill(pids[50], signal.SIGSTOP)
        with patient(ports, heartbeat_timeout=60) as publisher:
            publisher.send_messages("numbers", range(count))
            publisher.flush()
            complete = {int(read_line(subscribers)) for _ in range(99)}
        assert complete == {*pids} - {pids[50]}


def test_a_server_restart_is_survived(tmp_path: Path) -> None:
    """P4, P6: the server is down for 5 s amid 1,000 ack=1 sends; no send raises, and all sent afterwards arrive."""
    ports, log = free_ports(), tmp_path / "log"
    arrived: list[object] = []
    sent_after: list[int] = []
    with ExitStack() as stack:
        first = stack.enter_context(server_process(ports, log))
        subscriber = stack.enter_context(patient(ports))
        publisher = stack.enter_context(patient(ports))
        subscriber.subscribe("numbers", lambda payload, _msg: arrived.append(payload))
        second_is_up = threading.Event()

        def send_all() -> None:
            for number in range(1000):
                if second_is_up.is_set():
                    sent_after.append(number)
                publisher.send_message("numbers", number, ack=1)

        sender = threading.Thread(target=send_all)
        sender.start()
        wait_for(lambda: len(arrived) >= 300)
        first.terminate()
        assert first.wait(10) == 0
        wait_for(lambda: publisher.state is not State.OPEN)
        threading.Event().wait(5)
        stack.enter_context(server_process(ports, log))
        second_is_up.set()
        sender.join(60)
        assert not sender.is_alive()
        wait_for(lambda: set(sent_after) <= set(arrived))
        assert len(sent_after) >= 300
        wait_for(lambda: set(range(1000)) <= set(arrived))


def test_nothing_is_resent_once_it_was_acknowledged(server: MezzengerServer, connect: Connect) -> None:
    """P2, P7: every ack=1 message is handled exactly once as long as nothing breaks, and nothing stays pending."""
    subscriber, publisher = connect(), connect()
    arrived: list[object] = []
    subscriber.subscribe("numbers", lambda payload, _msg: arrived.append(payload))
    assert publisher.send_messages("numbers", range(5000), ack=1) == 5000
    wait_for(lambda: len(arrived) == 5000)
    wait_for(lambda: server.stats().pending == 0)
    assert arrived == list(range(5000))
