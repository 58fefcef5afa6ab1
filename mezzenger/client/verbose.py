"""What a verbose client logs of the messages that it sends and receives."""

from collections.abc import Sequence

from mezzenger.protocol.events import Bundled, Delivery
from mezzenger.protocol.outgoing import Draft, MixedDraft
from mezzenger.queues import split_queue


def sending(draft: Draft | MixedDraft) -> str:
    """Tell what is sent."""
    names = draft.names if isinstance(draft, MixedDraft) else [draft.name]
    return f"sending {_messages(len(draft.items), names, draft.ack)}"


def received(arrival: Delivery | Bundled) -> str:
    """Tell what has arrived, before it is known whether there is a callback for it."""
    if isinstance(arrival, Bundled):
        names = arrival.bundle.names
        return f"received {_messages(len(names), names, 0)}"
    header, indexes = arrival.contents.header, arrival.indexes
    count = header.messages if indexes is None else len(indexes)
    text = f"received {_messages(count, [header.name], header.ack)}"
    if arrival.group is not None:
        text += f", for group {split_queue(arrival.group)[1]!r}"
    if arrival.served is not None:
        text += ", as a request"
    if arrival.attempt > 1:
        text += f", attempt {arrival.attempt}"
    return text


def _messages(count: int, names: Sequence[str], ack: int) -> str:
    told = ", ".join(map(repr, dict.fromkeys(names)))
    return f"{count} of {told} with ack={ack}"
