"""One subscription for many names."""

import queue

from mezzenger import Message, Mezzenger

lines: queue.SimpleQueue[str] = queue.SimpleQueue()


def note(payload: object, msg_obj: Message[object]) -> None:
    """Write down a message of any of the names."""
    lines.put(f"{msg_obj.name}: {payload}")


with Mezzenger(server_address="127.0.0.1") as mc:
    mc.subscribe("sensors.*.temperature", note)  # * is one part between dots
    mc.subscribe("alarms.>", note)  # > is all that follow
    mc.send_message("sensors.boiler.temperature", 71.5)
    mc.send_message("sensors.boiler.pressure", 2.1)
    mc.send_message("alarms.cellar.door.open", "since 9:12")
    for _ in range(2):
        print(lines.get(timeout=10))
