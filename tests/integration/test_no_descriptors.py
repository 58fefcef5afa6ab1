"""A system that has no file descriptor to spare when a connection breaks: the client connects when it has one again."""

import time
from pathlib import Path
from typing import Final

import pytest

from tests.integration.processes import free_ports, read_line, running, server_process, wait_for

SETTINGS: Final = """settings=ClientSettings(
    send_port=int(sys.argv[1]), sub_port=int(sys.argv[2]), reconnect_min=0.05, reconnect_max=0.1
)"""

TAKE_ALL: Final = """
import asyncio, os, resource, sys, threading, time
from mezzenger import AsyncMezzenger, ClientSettings, Mezzenger

taken = []
is_over = threading.Event()

def take_all():
    # All that are free, and all that become so.
    while not is_over.is_set():
        try:
            taken.append(os.dup(0))
        except OSError:
            time.sleep(0.0005)

def on_command():
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taker = threading.Thread(target=take_all)
    for line in sys.stdin:
        if line == "take\\n":
            taker.start()
        else:
            is_over.set()
            taker.join()
            while taken:
                os.close(taken.pop())
        print("done", flush=True)

threading.Thread(target=on_command, daemon=True).start()

def got(payload, message):
    print("got", payload, flush=True)
"""
WITH_THREADS: Final = f"""{TAKE_ALL}
mc = Mezzenger({SETTINGS})
mc.subscribe("a", got)
print("subscribed", flush=True)
"""
IN_A_LOOP: Final = f"""{TAKE_ALL}
async def work():
    mc = await AsyncMezzenger({SETTINGS})
    await mc.subscribe("a", got)
    print("subscribed", flush=True)
    await asyncio.Event().wait()

asyncio.run(work())
"""


@pytest.mark.parametrize("program", [WITH_THREADS, IN_A_LOOP], ids=["threads", "asyncio"])
def test_a_reconnect_without_descriptors(tmp_path: Path, program: str) -> None:
    """A subscriber that cannot make a socket for a while is connected, and subscribed, when it can again."""
    ports = free_ports()
    log = tmp_path / "client"
    with running(program, *ports, log=log) as client:

        def command(text: str) -> None:
            assert client.stdin is not None
            client.stdin.write(f"{text}\n")
            client.stdin.flush()
            assert read_line(client) == "done"

        with server_process(ports, tmp_path / "log"):
            assert read_line(client) == "subscribed"
            command("take")
        wait_for(lambda: "the connection is lost" in log.read_text())
        time.sleep(0.5)  # for some attempts
        command("release")
        with server_process(ports, tmp_path / "log") as server, running(PUBLISH, *ports) as publisher:
            assert read_line(client) == "got 1"
            assert publisher.wait(30) == 0
            server.terminate()
            server.wait(30)


PUBLISH: Final = """
import sys
from mezzenger import Mezzenger
with Mezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2])) as mc:
    mc.send_message("a", 1, ack=1)
"""
