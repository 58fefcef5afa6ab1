"""How a program ends that has subscribed: by itself, by an error, by Ctrl-C, and while a callback takes long."""

import signal
import time
from pathlib import Path
from typing import Final

import pytest

from mezzenger import MezzengerServer
from tests.integration.processes import read_line, running, wait_for

CONNECT: Final = """
import signal, sys, time
from mezzenger import Mezzenger
signal.signal(signal.SIGINT, signal.default_int_handler)
mc = Mezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2]))

def take_long(payload, message):
    print("begun", flush=True)
    time.sleep(60)
"""
FAILS: Final = f"""{CONNECT}
mc.subscribe("a", print)
raise RuntimeError("the main thread has failed")
"""
WAITS: Final = f"""{CONNECT}
mc.subscribe("a", take_long)
mc.send_message("a", 1)
"""
WAITS_IN_A_BLOCK: Final = f"""{CONNECT}
with mc:
    mc.subscribe("a", take_long)
    mc.send_message("a", 1)
    time.sleep(60)
"""
EXITS: Final = f"""{CONNECT}
def last(payload, message):
    print("still there", flush=True)
    mc.stop()

mc.subscribe("a", last)
mc.send_message("a", 1)
sys.exit(3)
"""


def test_an_error_ends_a_program(server: MezzengerServer, tmp_path: Path) -> None:
    """A program whose main thread was ended by an exception does not go on calling back."""
    with running(FAILS, server.recv_port, server.pub_port, log=tmp_path / "log") as program:
        assert program.wait(30) == 1
    assert (tmp_path / "log").read_text().endswith("RuntimeError: the main thread has failed\n")


def test_an_exit_waits_for_callbacks(server: MezzengerServer) -> None:
    """``sys.exit()`` ends the main thread alone, as with any thread that is no daemon; its status counts."""
    with running(EXITS, server.recv_port, server.pub_port) as program:
        assert read_line(program) == "still there"
        assert program.wait(30) == 3


@pytest.mark.parametrize("source", [WAITS, WAITS_IN_A_BLOCK], ids=["at the end", "in a block"])
def test_the_second_ctrl_c_does_not_wait(server: MezzengerServer, tmp_path: Path, source: str) -> None:
    """The first one has the program wait for the callback that runs, and say so; the next one ends it."""
    log = tmp_path / "log"
    with running(source, server.recv_port, server.pub_port, log=log) as program:
        assert read_line(program) == "begun"
        time.sleep(0.5)
        program.send_signal(signal.SIGINT)
        wait_for(lambda: "still stopping: a callback has not returned yet" in log.read_text(), 20)
        assert program.poll() is None
        program.send_signal(signal.SIGINT)
        assert program.wait(20) == -signal.SIGINT
    assert "Exception ignored" not in log.read_text()
