"""Show the current value of every gauge at once, though each was sent before this program started.

The server keeps the last message of these names if its configuration says so:

    channels:
      "gauge.*":
        retain: last
"""

from mezzenger import Message, Mezzenger

GAUGES = ("gauge.boiler", "gauge.outside", "gauge.pressure")


def show(payload: float, msg_obj: Message[float]) -> None:
    print(f"{msg_obj.name} {payload} {'(as it was)' if msg_obj.retained else ''}".rstrip())


mc = Mezzenger(server_address="127.0.0.1")
for gauge in GAUGES:
    mc.subscribe(gauge, show)
print("Ctrl-C ends this.")
