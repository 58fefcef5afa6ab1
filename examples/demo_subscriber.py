"""A subscriber of the demonstration: counts the messages of some names until its standard input is closed.

It prints reports, one JSON object a line. The first says that it is subscribed. The last is ``final``: the client is
stopped then, and the server has the acknowledgement of everything that is counted.
"""

import argparse
import json
import sys
import threading

from mezzenger import Message, Mezzenger


class Counter:
    """Counts messages by name; one that is delivered twice counts once."""

    def __init__(self, names: list[str]) -> None:
        self.ids: dict[str, set[str]] = {name: set() for name in names}
        self.latest = dict.fromkeys(names, "")

    def callback(self, payload: object, message: Message[object]) -> None:
        """Count a message."""
        self.ids[message.name].add(message.id)
        self.latest[message.name] = shown(payload)

    def report(self, *, final: bool = False) -> None:
        """Print the counts."""
        counts = {name: len(ids) for name, ids in self.ids.items()}
        print(json.dumps({"counts": counts, "latest": self.latest, "final": final}), flush=True)

    def report_until(self, end: threading.Event) -> None:
        """Print them ten times a second."""
        while not end.wait(0.1):
            self.report()


def shown(payload: object, width: int = 60) -> str:
    """Write a payload in one short line of printable characters."""
    if isinstance(payload, dict):
        text = ", ".join(f"{key} {value:,}" for key, value in payload.items())
    else:
        text = "".join(character if character.isprintable() else " " for character in str(payload)[: width + 1])
    return text if len(text) <= width else text[: width - 3] + "..."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("send_port", type=int)
    parser.add_argument("sub_port", type=int)
    parser.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    counter, end = Counter(arguments.names), threading.Event()
    with Mezzenger(send_port=arguments.send_port, sub_port=arguments.sub_port) as mc:
        for name in arguments.names:
            mc.subscribe(name, counter.callback)
        counter.report()
        reporter = threading.Thread(target=counter.report_until, args=(end,))
        reporter.start()
        sys.stdin.read()
        end.set()
        reporter.join()
    counter.report(final=True)


if __name__ == "__main__":
    main()
