"""A member whose callback holds the GIL: nothing is taken from it as long as its process lives.

By hand: python -m tests.integration.held_gil --seconds 60
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.integration.processes import count_lines, free_ports, patient, read_line, running, server_process, wait_for

HEARTBEATS: Final = {"heartbeat_interval": 1.0, "heartbeat_timeout": 3.0}
"""At both ends; a process that is silent for longer than these together counts as dead."""

MEMBER: Final = """
import ctypes, logging, sys
from mezzenger import ClientSettings, Mezzenger

def work(payload, message):
    # PyDLL does not release the GIL: no other thread of this process runs Python meanwhile.
    ctypes.PyDLL(None).sleep(payload)
    print("handled", payload, message.attempt, flush=True)

logging.basicConfig(level=logging.INFO)
mc = Mezzenger(settings=ClientSettings(**eval(sys.argv[1])))
mc.subscribe("jobs", work, group="workers")
print("ready", flush=True)
sys.stdin.readline()
print(mc.state.value, flush=True)
mc.stop()
"""


@dataclass
class Report:
    """What came of it."""

    seconds: int
    took: float = 0.0
    """How long the message was in hand."""
    said: list[str] = field(default_factory=list)
    """By the member that held the GIL."""
    others: list[object] = field(default_factory=list)
    """What the other member was given."""
    connected_again: int = 0


def run(folder: Path, seconds: int) -> Report:
    """Have one of two members hold the GIL for some seconds, and look what is done with its message."""
    report, ports = Report(seconds), free_ports()
    client_log, settings = folder / "member.log", ports._asdict() | HEARTBEATS
    with ExitStack() as stack:
        stack.enter_context(server_process(ports, folder / "server.log", **HEARTBEATS))
        watcher = stack.enter_context(patient(ports))
        process = stack.enter_context(running(MEMBER, settings, log=client_log))
        report.said.append(read_line(process))
        began = time.monotonic()
        watcher.send_message("jobs", seconds, ack=1)
        wait_for(lambda: next(watcher.groups.list()).in_hand)
        other = stack.enter_context(patient(ports, **HEARTBEATS))
        other.subscribe("jobs", lambda payload, _message: report.others.append(payload), group="workers")
        wait_for(lambda: not next(watcher.groups.list()).in_hand, seconds + 30)
        report.took = time.monotonic() - began
        # Beyond the heartbeats' time: whoever took the silence for death would have said so by now.
        time.sleep(sum(HEARTBEATS.values()))
        report.said.append(read_line(process))
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        report.said.append(read_line(process))
    report.connected_again = count_lines(client_log, "connected") - 1
    return report


def problems(report: Report) -> list[str]:
    """Return what should not be."""
    found = []
    if report.said != ["ready", f"handled {report.seconds} 1", "open"]:
        found.append(f"the member said {report.said}")
    if report.took < report.seconds:
        found.append(f"the message was in hand for {report.took:.1f} s only")
    if report.others:
        found.append("the other member was given the message")
    if report.connected_again:
        found.append(f"the member connected again {report.connected_again} times")
    return found


def main() -> None:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), options.seconds)
    print(report)
    if found := problems(report):
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
