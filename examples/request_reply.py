"""One program answers requests, another one asks: ``python examples/request_reply.py serve`` and ``... ask 3 4``."""

import sys
import time

from mezzenger import Message, Mezzenger, RemoteError


def divide(payload: list[float], _msg: Message[list[float]]) -> float:
    """Answer a request: what this returns, or raises, goes to who asked."""
    first, second = payload
    return first / second


def main(arguments: list[str]) -> None:
    """Serve until Ctrl-C, or ask once."""
    with Mezzenger(server_address="127.0.0.1") as mc:
        if arguments == ["serve"]:
            mc.subscribe("divide", divide)
            print("serving", flush=True)
            while True:
                time.sleep(1)
        try:
            print(mc.request("divide", [float(text) for text in arguments[1:]], timeout=5))
        except RemoteError as error:
            print(error.type, error.text)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print("stopped")
