"""Print every greeting: the subscriber of the quick start."""

from mezzenger import Message, Mezzenger


def callback(payload: str, msg_obj: Message[str]) -> None:  # noqa: ARG001  # every callback is given both
    print(payload)


mc = Mezzenger(server_address="127.0.0.1")
mc.subscribe("greetings", callback)
