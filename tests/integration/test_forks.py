"""Programs that fork: what a child process does with the copies of clients that it has, and what it does not do."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from mezzenger import MezzengerServer

FROM_A_CALLBACK: Final = """
import multiprocessing, queue, sys
from mezzenger import Mezzenger

def work(payload):
    print("child works with", payload, flush=True)

def start(payload, message):
    child = multiprocessing.get_context("fork").Process(target=work, args=(payload,))
    child.start()
    child.join()
    codes.put(child.exitcode)

codes = queue.SimpleQueue()
with Mezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2])) as mc:
    mc.subscribe("jobs", start)
    mc.send_message("jobs", 7)
    print("exit code", codes.get(timeout=30))
"""

BETWEEN_TURNS: Final = """
import asyncio, os, sys
from mezzenger import AsyncMezzenger

async def connect():
    mc = await AsyncMezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2]))
    await mc.subscribe("echo", lambda payload, message: payload)
    return mc

async def ask():
    return [await mc.request("echo", number, timeout=5) for number in range(100)]

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
mc = loop.run_until_complete(connect())
child = os.fork()
if child == 0:
    sys.exit()
print("exit code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
# Whose descriptors are watched no more looks only when a heartbeat is due: 100 answers would take minutes.
print(loop.run_until_complete(asyncio.wait_for(ask(), 30)) == list(range(100)))
loop.run_until_complete(mc.stop())
"""


@pytest.mark.parametrize(
    ("program", "printed"),
    [(FROM_A_CALLBACK, "child works with 7\nexit code 0\n"), (BETWEEN_TURNS, "exit code 0\nTrue\n")],
    ids=["from a callback", "between turns of a loop"],
)
def test_a_child_ends_without_harm(server: MezzengerServer, tmp_path: Path, program: str, printed: str) -> None:
    """A forked child that does not touch its copy of a client ends well, and the client of the parent works on."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(server.recv_port), str(server.pub_port)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")
