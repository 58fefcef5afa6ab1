"""Signal handlers that raise at any moment, as Ctrl-C does: nothing that is called afterwards waits for ever."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from mezzenger import MezzengerServer

PROGRAM: Final = """
import faulthandler, random, signal, sys, time
from mezzenger import Mezzenger

class Interrupt(KeyboardInterrupt):
    pass

def interrupt(*_):
    raise Interrupt

faulthandler.dump_traceback_later(40, exit=True)
signal.signal(signal.SIGALRM, interrupt)
random.seed(int(sys.argv[4]))
mc = Mezzenger(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2]), auto_start=sys.argv[3] == "True")
interrupts = 0
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.004))
        while True:
            mc.send_message("a", 1, ack=1)
    except Interrupt:
        interrupts += 1
mc.send_message("a", 2, ack=1)
mc.stop()
print(interrupts > 50)
"""


@pytest.mark.parametrize("auto_start", [False, True])
def test_a_client_is_usable_after_interrupts(server: MezzengerServer, tmp_path: Path, auto_start: bool) -> None:
    """Sends that are interrupted wherever they are leave a client that sends on, and stops."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(server.recv_port), str(server.pub_port), str(auto_start), "4"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
