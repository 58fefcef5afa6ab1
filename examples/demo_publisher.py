"""The publisher of the demonstration: this machine's telemetry with ``ack=0``, a file's lines with ``ack=1``.

It prints reports of what it has sent, one JSON object a line. After the last one, which is ``final``, the server has
everything.
"""

import argparse
import json
import time
from pathlib import Path

import psutil

from mezzenger import Mezzenger

READINGS_PER_SECOND = 10


def read_machine() -> dict[str, dict[str, float]]:
    """Return a message for each name."""
    load, memory, network = psutil.getloadavg(), psutil.virtual_memory(), psutil.net_io_counters()
    return {
        "machine.load": {f"{minutes} min": round(value, 2) for minutes, value in zip((1, 5, 15), load, strict=True)},
        "machine.memory": {"percent": memory.percent, "used": memory.used, "total": memory.total},
        "machine.network": {"bytes sent": network.bytes_sent, "bytes received": network.bytes_recv},
    }


def read_lines(file: Path) -> list[str]:
    """Return all lines, whatever is in them."""
    with file.open(encoding="utf-8", errors="replace") as text:
        return [line.rstrip("\n") for line in text]


def report(counts: dict[str, int], *, final: bool = False) -> None:
    print(json.dumps({"counts": counts, "latest": {}, "final": final}), flush=True)


def publish(mc: Mezzenger, lines: list[str], duration: float) -> dict[str, int]:
    """Send telemetry ten times a second, the lines evenly in between, and how many they were; return what was sent."""
    counts = {"lines": 0, "lines.total": 0}
    rounds = max(1, round(duration * READINGS_PER_SECOND))
    begin = time.monotonic()
    for number in range(rounds):
        for name, reading in read_machine().items():
            mc.send_message(name, reading)
            counts[name] = counts.get(name, 0) + 1
        portion = lines[len(lines) * number // rounds : len(lines) * (number + 1) // rounds]
        counts["lines"] += mc.send_messages("lines", portion, ack=1)
        report(counts)
        time.sleep(max(0.0, begin + (number + 1) / READINGS_PER_SECOND - time.monotonic()))
    mc.send_message("lines.total", len(lines), ack=1)
    counts["lines.total"] += 1
    mc.flush()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("send_port", type=int)
    parser.add_argument("sub_port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("duration", type=float)
    arguments = parser.parse_args()
    lines = read_lines(arguments.file)
    with Mezzenger(send_port=arguments.send_port, sub_port=arguments.sub_port, auto_start=False) as mc:
        counts = publish(mc, lines, arguments.duration)
    report(counts, final=True)


if __name__ == "__main__":
    main()
