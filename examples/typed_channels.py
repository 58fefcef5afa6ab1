"""Orders with a type: what does not fit is found by mypy, by the sender, or told to the operator, and stops nobody."""

import queue
from decimal import Decimal

from pydantic import BaseModel, Field

from mezzenger import Channel, Message, Mezzenger, PayloadInvalid


class Order(BaseModel):
    number: int = Field(gt=0)
    items: dict[str, int]
    total: Decimal


ORDERS = Channel("orders", Order)
handled: queue.SimpleQueue[Order] = queue.SimpleQueue()


def handle(payload: Order, msg_obj: Message[Order]) -> None:
    handled.put(payload)


with Mezzenger(server_address="127.0.0.1") as mc:
    mc.subscribe(ORDERS, handle)
    mc.send_message(ORDERS, Order(number=1, items={"tea": 2}, total=Decimal("7.90")), ack=1)

    # mypy finds no fault with a number that is none; the sender does.
    try:
        mc.send_message(ORDERS, Order.model_construct(number=0, items={}, total=Decimal(0)), ack=1)
    except PayloadInvalid as error:
        print("not sent:", *str(error).splitlines()[1:], sep="\n  ")

    # Somebody who knows the name alone. The first of these is not given to the callback.
    mc.send_message("orders", {"number": "one"}, ack=0)
    mc.send_message("orders", {"number": 2, "items": {"milk": 1}, "total": "1.20"}, ack=1)

    for _ in range(2):
        order = handled.get(timeout=10)
        print(f"order {order.number}: {order.items} for {order.total} euro")
    print("could not be handled:", mc.stats.failed)
