"""A web service that publishes, with FastAPI, and in the same process a subscriber that works in the background.

A server must run: ``mezzenger-server``. Then ``python web_fastapi.py 8000``, and in another terminal
``curl -X POST localhost:8000/orders/tea``, and a moment later ``curl localhost:8000/orders``. Ctrl-C ends it.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from mezzenger import AsyncMezzenger, Message

mc = AsyncMezzenger(server_address="127.0.0.1")
packed: Counter[str] = Counter()


@mc.on("orders.*", group="packers", concurrency=10)
async def pack(item: str, msg: Message[str]) -> None:
    await asyncio.sleep(0.01)  # packing
    packed[item] += 1


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with mc.running():
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{item}")
async def order(item: str) -> dict[str, str]:
    await mc.send_message("orders.new", item, ack=1)  # stored when this returns
    return {"ordered": item}


@app.get("/orders")
async def orders() -> dict[str, int]:
    return dict(packed)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
