"""Programs that mypy must accept."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, assert_type

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from mezzenger import AsyncMezzenger, Channel, Message, MessageInHand, Mezzenger


class Event(BaseModel):
    at: float


class Opened(Event):
    by: str


class Closed(Event):
    reason: str = ""


@dataclass
class Reading:
    sensor: str
    value: float


class Order(TypedDict):
    id: int
    items: list[str]


# The type of a channel is found from its second argument.
assert_type(Channel("a", Event), Channel[Event])
assert_type(Channel("a", Reading, codec="json"), Channel[Reading])
assert_type(Channel("a", list[int]), Channel[list[int]])
assert_type(Channel("a", int | str), Channel[int | str])
assert_type(Channel("a", int | None), Channel[int | None])
assert_type(Channel("a", Literal["on", "off"]), Channel[Literal["on", "off"]])
assert_type(Channel("a", Annotated[int, Field(gt=0)]), Channel[int])
assert_type(Channel("a", None), Channel[None])
assert_type(Channel[list[Any]]("a", list[Any]), Channel[list[Any]])
Door = Annotated[Opened | Closed, Field(discriminator="kind")]
assert_type(Channel("a", Door), Channel[Opened | Closed])
anything: Channel[object] = Channel("a", object)

events = Channel("events", Event)
opened = Channel("events.opened", Opened)
either = Channel("events.either", Opened | Closed)
orders = Channel("orders", Order)
readings = Channel("readings", list[float])
notes = Channel("notes", dict[str, object])

mc = Mezzenger()

# A payload of the type, of a type derived from it, or what becomes one in its place.
mc.send_message(events, Event(at=1.5))
mc.send_message(events, Opened(at=1.5, by="Ann"), ack=1, ttl=30)
mc.send_message(either, Closed(at=1.5))
mc.send_message(orders, {"id": 1, "items": ["tea"]})
mc.send_message(readings, [1, 2.5])
mc.send_message(notes, {"a": 1, "b": None})
mc.send_message(anything, Event(at=1))
count: int = mc.send_messages(events, [Event(at=1), Opened(at=2, by="Ann")])
mc.send_messages(orders, ({"id": number, "items": []} for number in range(3)))
mc.send_messages(opened, (Opened(at=1, by=name) for name in ("Ann", "Bob")))

# Without a channel, anything.
mc.send_message("events", Event(at=1.5))
answer: str = mc.request(events, Opened(at=1.5, by="Ann"), timeout=1)
mc.request("events", object(), headers={"a": "b"})
mc.send_message("events", object(), headers={"a": "b"})
mc.send_messages("events", [1, "two"])


mc.request(orders, {"id": 1, "items": []}, timeout=2, headers={"a": "b"})


def on_event(payload: Event, msg_obj: Message[Event]) -> None: ...


def on_opened(payload: Opened, msg_obj: Message[Opened]) -> str:
    return msg_obj.payload.by


def log(payload: object, msg_obj: Message[object]) -> None: ...


class Store:
    def __call__(self, payload: Event, msg_obj: Message[Event]) -> None: ...

    def keep(self, payload: Event, msg_obj: Message[Event]) -> None: ...


# A callback for the type, or for one that it is derived from.
mc.subscribe(events, on_event)
mc.subscribe(opened, on_opened)
mc.subscribe(opened, on_event)
mc.subscribe(either, on_event)
mc.subscribe(events, log)
mc.subscribe(events, Store())
mc.subscribe(events, Store().keep)
mc.subscribe(opened, lambda payload, msg_obj: print(payload.by, msg_obj.payload.at))
mc.subscribe(orders, lambda payload, _msg_obj: print(payload["items"]))
mc.unsubscribe(events)

# Without a channel, any: nobody knows what will come.
mc.subscribe("events", on_event)
mc.subscribe("events", log)
mc.subscribe("events", lambda payload, msg_obj: print(payload.at + 1, msg_obj.payload.by.upper()))
mc.subscribe("events", lambda payload, _: print(payload))
mc.unsubscribe("events")

# What is read is of the type.
assert_type(events.decode(b""), Event)
assert_type(events.encode(Event(at=1)), bytes)
message: Message[Event] = Message[Opened](name="a", payload=Opened(at=1, by="Ann"), timestamp=1.5)


# The same with asyncio.
async def on_event_later(payload: Event, msg_obj: Message[Event]) -> None: ...


@mc.on(events, group="store")
def stored(payload: Event, msg_obj: Message[Event]) -> int:
    return len(msg_obj.headers)


assert_type(stored(Event(at=1), Message[Event](name="a", payload=Event(at=1), timestamp=1.5)), int)


async def use(amc: AsyncMezzenger) -> None:
    await amc.send_message(opened, Opened(at=1, by="Ann"), ack=1, ttl=5.0)
    await amc.send_message("events", 5, headers={"a": "b"})
    assert_type(await amc.send_messages(events, [Event(at=1)], ack=1), int)
    await amc.subscribe(events, on_event_later, group="store", concurrency=5)
    await amc.subscribe(opened, on_event, prefetch=5)
    await amc.subscribe("events", on_event_later)
    async for msg in amc.messages(opened, ack="manual"):
        assert_type(msg, MessageInHand[Opened])
        assert_type(msg.payload.by, str)
        await msg.ack()
    async with amc.messages("events") as messages:
        async for any_msg in messages:
            assert_type(any_msg, MessageInHand[Any])
    async with amc.running() as same:
        assert_type(same, AsyncMezzenger)
    assert_type(await amc, AsyncMezzenger)
