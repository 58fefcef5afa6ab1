"""Print every greeting: the subscriber of the quick start."""

from mezzenger import Message, Mezzenger


def callback(payload: str, msg_obj: Message[str]) -> None:
    print(payload)


mc = Mezzenger(server_address="127.0.0.1")
mc.subscribe("greetings", callback)
