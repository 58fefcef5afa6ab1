"""The demonstration runs, counts what is real, says so when something is lost, and leaves nothing behind."""

import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
import pytest

from examples.demo import Report, Row, Server, compare, problems
from mezzenger import Mezzenger

DEMO: Final = Path(__file__).parent.parent / "examples" / "demo.py"
AWKWARD_LINES: Final = ["", "", "Grüße, 世界 🎉", "x" * 200_000, "[red]no markup[/red]", "\x1b[2J|>*", " end ", ""]

CLEAN: Final = [
    Row("machine.load", ack=0, sent=20, received=20, acknowledged=0),
    Row("machine.memory", ack=0, sent=20, received=20, acknowledged=0),
    Row("machine.network", ack=0, sent=20, received=20, acknowledged=0),
    Row("lines", ack=1, sent=7, received=7, acknowledged=7),
    Row("lines.total", ack=1, sent=1, received=1, acknowledged=1, latest="7"),
]


def start_demo(file: Path, duration: float) -> subprocess.Popen[str]:
    command = [sys.executable, str(DEMO), "--duration", str(duration), "--file", str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")


def test_the_demonstration_loses_nothing(tmp_path: Path) -> None:
    """It ends by itself with status 0, and its table has every message sent and received, whatever the lines are."""
    file = tmp_path / "awkward.txt"
    file.write_bytes("\n".join(AWKWARD_LINES).encode() + b"\n\xff\xfe no UTF-8\r\nwithout an end")
    begin = time.monotonic()
    with start_demo(file, 2) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, ""), output
    assert "Nothing was lost." in output
    assert time.monotonic() - begin >= 2
    # The last of the awkward lines is an empty one before a line break; two more lines follow.
    expected = {
        "machine.load": "20",
        "machine.memory": "20",
        "machine.network": "20",
        "lines": "10",
        "lines.total": "1",
    }
    for name, count in expected.items():
        acknowledged = count if name.startswith("lines") else "-"
        row = re.search(rf"{re.escape(name)} .*", output[output.index("acknowledged") :])
        assert row is not None
        assert re.findall(r"[\d-]+", row[0].removeprefix(name))[1:] == [count, count, acknowledged, "0"]


@pytest.mark.parametrize(("ending", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_demonstration_leaves_no_process(ending: signal.Signals, status: int, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end it within seconds, and every process that it has started."""
    file = tmp_path / "lines.txt"
    file.write_text("a line\n" * 100)
    with start_demo(file, 10) as process:
        assert process.stdout is not None
        while "machine.load" not in process.stdout.readline():
            assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(ending)
        process.communicate(timeout=60)
    assert process.returncode == status
    assert len(children) >= 4
    assert psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("demo_subscriber.py", "demo_subscriber.py has ended too early, with status -9"),
        ("mezzenger-server", "the server has ended too early, with status -9"),
    ],
)
def test_a_dead_process_fails_the_demonstration(program: str, problem: str, tmp_path: Path) -> None:
    """When a process of it is killed, it says which and ends with status 1 at once."""
    file = tmp_path / "lines.txt"
    file.write_text("a line\n" * 100)
    with start_demo(file, 10) as process:
        assert process.stdout is not None
        while "machine.load" not in process.stdout.readline():
            assert process.poll() is None
        children = psutil.Process(process.pid).children()
        next(child for child in children if any(word.endswith(program) for word in child.cmdline())).kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert problem in errors
    assert "listening on" in errors
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A file that is not there is a mistake in the command, and nothing is started."""
    with start_demo(tmp_path / "missing.txt", 2) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "missing.txt is not a file" in errors


def test_the_server_tells_what_is_pending(tmp_path: Path) -> None:
    """Frames that nobody has acknowledged are counted when the server stops."""
    with ExitStack() as stack:
        server = Server(stack, tmp_path / "server.log")
        send_port, sub_port = map(int, server.ports())
        with Mezzenger(send_port=send_port, sub_port=sub_port, auto_start=False) as mc:
            for number in range(3):
                mc.send_message("lines", number, ack=1)
        assert server.stop() == 3


def test_nothing_lost_is_no_problem() -> None:
    """The verdict is good if all that was sent was received, all with ack=1 acknowledged, and nothing is pending."""
    assert problems(CLEAN, pending=0) == []


@pytest.mark.parametrize(
    ("index", "changes", "problem"),
    [
        (0, {"received": 19}, "machine.load: 1 of 20 were lost"),
        (2, {"received": 0}, "machine.network: 20 of 20 were lost"),
        (3, {"acknowledged": 5}, "lines: 2 of 7 were lost"),
        (3, {"sent": 9}, "lines: 2 of 9 were lost"),
        (1, {"received": 21}, "machine.memory: 1 more than were sent have arrived"),
        (0, {"sent": 0, "received": 0}, "machine.load: nothing was sent"),
        (4, {"latest": "8"}, "lines: the publisher's last message tells of 8, but 7 have arrived"),
    ],
)
def test_a_loss_is_a_problem(index: int, changes: dict[str, int], problem: str) -> None:
    """Each count that does not agree with the others is told, with its name."""
    rows = [replace(row, **changes) if row is CLEAN[index] else row for row in CLEAN]  # type: ignore[arg-type]  # a str too
    assert problems(rows, pending=0) == [problem]


def test_pending_frames_are_a_problem() -> None:
    """What the server still had when it stopped was not acknowledged, whatever the subscribers say."""
    assert problems(CLEAN, pending=2) == ["the server still had 2 frames that nobody has acknowledged"]


def test_only_a_stopped_subscriber_has_acknowledged() -> None:
    """What a subscriber has handled counts as acknowledged when it has stopped, and not before."""
    running = Report(counts={"lines": 7}, latest={"lines": "end"})
    [before] = [row for row in compare(Report({"lines": 7}), [running]) if row.name == "lines"]
    [after] = [row for row in compare(Report({"lines": 7}), [replace(running, final=True)]) if row.name == "lines"]
    assert (before.received, before.acknowledged, before.lost) == (7, 0, 7)
    assert (after.received, after.acknowledged, after.lost) == (7, 7, 0)
