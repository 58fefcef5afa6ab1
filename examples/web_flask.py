"""The same as web_fastapi.py with threads: Flask serves each request in one, and the subscriber has its own.

A server must run: ``mezzenger-server``. Then ``python web_flask.py 8000``, and in another terminal
``curl -X POST localhost:8000/orders/tea``, and a moment later ``curl localhost:8000/orders``. Ctrl-C ends it.
"""

import sys
from collections import Counter
from contextlib import suppress

from flask import Flask
from werkzeug.serving import make_server

from mezzenger import Message, Mezzenger

app = Flask(__name__)
mc = Mezzenger(server_address="127.0.0.1", auto_start=False)
packed: Counter[str] = Counter()


@mc.on("orders.*", group="packers")
def pack(item: str, msg: Message[str]) -> None:
    packed[item] += 1


@app.post("/orders/<item>")
def order(item: str) -> dict[str, str]:
    mc.send_message("orders.new", item, ack=1)  # stored when this returns
    return {"ordered": item}


@app.get("/orders")
def orders() -> dict[str, int]:
    return dict(packed)


if __name__ == "__main__":
    with mc.running(), suppress(KeyboardInterrupt):
        make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True).serve_forever()
