"""What a client has counted."""

from collections.abc import Mapping
from dataclasses import dataclass

from mezzenger.client.receiver import Receiver
from mezzenger.client.responder import Responder
from mezzenger.protocol.session import ClientSession


@dataclass(frozen=True, slots=True)
class ClientStats:
    """A snapshot; all counts are of messages since the client was made, where nothing else is said."""

    received: int
    """Given to callbacks."""
    failed: int
    """Callbacks that raised, payloads that could not be decoded, and answers that could not be sent."""
    dropped: int
    """With ``ack=0``, because ``receive_queue`` of them waited for callbacks already."""
    duplicates: int
    """Deliveries that were recognised as handled or being handled, and not given to a callback again."""
    expired: int
    """Requests that no callback was run for, because nobody waited for the answer any more."""
    uncertain: int
    """Sent with ``ack=0`` and under way when a connection broke; the next ``flush`` reports them."""
    malformed: Mapping[str, int]
    """Frames from the server that could not be read, by reason."""


def count(session: ClientSession, receiver: Receiver, responder: Responder) -> ClientStats:
    """Return what a session, its receiver and its responder have counted so far."""
    return ClientStats(
        received=receiver.received + responder.received,
        failed=receiver.failed + responder.failed,
        dropped=receiver.dropped,
        duplicates=session.inbox.duplicates,
        expired=session.requests.expired,
        uncertain=session.outgoing.uncertain,
        malformed=dict(session.inbox.malformed),
    )
