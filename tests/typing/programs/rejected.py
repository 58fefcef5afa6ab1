"""Programs that mypy must reject, each line with (a part of) what it must say."""

from pydantic import BaseModel
from typing_extensions import TypedDict

from mezzenger import AsyncMezzenger, Channel, Message, Mezzenger


class Event(BaseModel):
    at: float


class Opened(Event):
    by: str


class Order(TypedDict):
    id: int


events = Channel("events", Event)
opened = Channel("events.opened", Opened)
orders = Channel("orders", Order)
readings = Channel("readings", list[float])
texts_or_numbers = Channel("either", int | str)

mc = Mezzenger()

# What is no channel.
Channel[int]("a", str)  # E: Argument 2 to "Channel" has incompatible type "TypeForm[str]"; expected "TypeForm[int]"
Channel("a", int, codec="xml")  # E: expected "Literal['pickle', 'msgpack', 'json', 'raw']"
Channel("a", 5)  # E: has incompatible type "int"; expected "TypeForm[
Channel(5, int)  # E: Argument 1 to "Channel" has incompatible type "int"; expected "str"
wider: Channel[Event] = opened  # E: expression has type "Channel[Opened]", variable has type "Channel[Event]"

# Payloads of another type.
mc.send_message(events, "x")  # E: "send_message" of "Mezzenger" has incompatible type "str"; expected "Event
mc.send_message(events, {"at": 1})  # E: incompatible type "dict[str, int]"; expected "Event
mc.send_message(opened, Event(at=1))  # E: incompatible type "Event"; expected "Opened
mc.send_message(orders, {"id": "x"})  # E: incompatible type "dict[str, str]"; expected "Order
mc.send_message(readings, ["x"])  # E: List item 0 has incompatible type "str"; expected "float"
mc.send_message(texts_or_numbers, 1.5)  # E: incompatible type "float"; expected "int | str
mc.request(events, {"at": 1})  # E: incompatible type "dict[str, int]"; expected "Event
mc.send_messages(events, ["x"])  # E: List item 0 has incompatible type "str"; expected "Event
mc.send_messages(events, Event(at=1))  # E: has incompatible type "Event"; expected "Iterable[Event
mc.send_message(5, "x")  # E: No overload variant of "send_message" of "Mezzenger" matches argument types "int", "str"
mc.request(events, "x")  # E: Argument 2 to "request" of "Mezzenger" has incompatible type "str"; expected "Event
mc.send_message(events, Event(at=1), ttl="soon")  # E: No overload variant of "send_message" of "Mezzenger" matches
mc.send_message("events", 1, headers={"a": 1})  # E: incompatible type "str": "int"; expected "str": "str"
mc.send_message("events", 1, header=None)  # E: did you mean "headers"?
events.encode("x")  # E: Argument 1 to "encode" of "Channel" has incompatible type "str"; expected "Event"


def on_event(payload: Event, msg_obj: Message[Event]) -> None: ...


def on_opened(payload: Opened, msg_obj: Message[Opened]) -> None: ...


def on_mixture(payload: Opened, msg_obj: Message[int]) -> None: ...


def on_payload(payload: Opened) -> None: ...


# Callbacks for another type.
mc.subscribe(events, on_opened)  # E: expected "Callable[[Event, Message[Event]], object]"
mc.subscribe(orders, on_event)  # E: expected "Callable[[Order, Message[Order]], object]"
mc.subscribe(opened, on_mixture)  # E: incompatible type "Callable[[Opened, Message[int]], None]"
mc.subscribe(opened, on_payload)  # E: incompatible type "Callable[[Opened], None]"
mc.subscribe(events, lambda payload, msg_obj: print(payload.by))  # E: "Event" has no attribute "by"
mc.subscribe(events, lambda payload, msg_obj: print(msg_obj.payload.by))  # E: "Event" has no attribute "by"
mc.subscribe(orders, lambda payload, msg_obj: print(payload["name"]))  # E: TypedDict "Order" has no key "name"
mc.subscribe("events", on_payload)  # E: expected "Callable[[Any, Message[Any]], object]"
mc.unsubscribe(5)  # E: expected "str | Channel[Any]"

# A message cannot be changed.
message = Message[Event](name="a", payload=Event(at=1), timestamp=1.5)
message.payload = Event(at=2)  # E: Property "payload" defined in "Message" is read-only
narrower: Message[Opened] = message  # E: expression has type "Message[Event]", variable has type "Message[Opened]"


# The same with asyncio.
@mc.on(events)  # E: Argument 1 to "__call__" of "ChannelDecorator" has incompatible type
def on_number(payload: int, msg_obj: Message[int]) -> None: ...


async def use(amc: AsyncMezzenger) -> None:
    await amc.send_message(events, "x")  # E: has incompatible type "str"; expected "Event
    await amc.send_message("events", 1, header=None)  # E: did you mean "headers"?
    await amc.subscribe(events, on_opened)  # E: Argument 2 to "subscribe" of "AsyncMezzenger" has incompatible type
    await amc.subscribe("events", on_event, concurrency="5")  # E: No overload variant of "subscribe"
    amc.messages(events, ack="never")  # E: No overload variant of "messages" of "AsyncMezzenger"
    async for msg in amc.messages(events):
        print(msg.payload.by)  # E: "Event" has no attribute "by"
