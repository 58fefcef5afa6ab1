"""What must have happened in some history, or the simulation proves less than it says."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from mezzenger.protocol.states import TRANSITIONS

FAULTS: Final = (
    "a mark is lost",
    "a peer takes nothing",
    "a publish is abandoned",
    "a publisher gives up",
    "callback never returns",
    "callback raises",
    "clock jumps back",
    "clock jumps forward",
    "close a client",
    "closed before it starts",
    "crash",
    "crash after a commit",
    "crash at an effect",
    "crash before a checkpoint",
    "crash before a commit",
    "crash in a checkpoint",
    "crash in a commit",
    "cut",
    "disk fails",
    "disk full",
    "failed: ClientStopped",
    "failed: NotSubscribed",
    "failed: Rejected",
    "failed: ServerUnreachable",
    "frame twice",
    "kill a client",
    "late frames of a former link",
    "load",
    "slow callback",
    "slow disk",
    "stall",
    "stop a client",
    "stop the server",
    "stuck callback",
    "sweep",
)
LIFE: Final = (
    "held",
    "held no more",
    "admitted",
    "refused: limit",
    "refused: storage",
    "stored",
    "confirmed",
    "delayed",
    "due",
    "delivered",
    "redelivered",
    "redelivery handled",
    "delivered on",
    "a bundle is published",
    "a bundle arrives",
    "nacked",
    "acked in part",
    "acked",
    "buried: max_attempts",
    "buried: overflow",
    "dead letter shown",
    "order done",
    "resent",
    "discarded",
    "expired",
    "dropped",
    "last message given",
    "last message seen",
    "last message seen before",
    "last message dropped",
    "last message expired",
)
"""Of a message."""
REQUESTS: Final = (
    "asked",
    "answered",
    "asked: ClientStopped",
    "asked: NoResponders",
    "asked: Rejected",
    "asked: RemoteError",
    "asked: RequestLost",
    "asked: RequestTimeout",
    "asked: ServerUnreachable",
    "not begun",
    "unserved: gone",
    "unserved: limit",
    "unserved: no_responders",
    "unserved: stopping",
    "unwanted response",
    "withdrawn",
)
OF_GROUPS: Final = (
    "group added",
    "joined",
    "declined: group",
    "left",
    "gone with something in hand",
    "taken from who is too slow",
    "handed to one member",
    "the next of a lane waits",
    "expired in a lane",
    "adopted",
    "group dropped",
    "dropped with its group",
    "subscribed to a pattern",
)
STATES: Final = tuple(f"client: {former} --{event}--> {to}" for (former, event), to in TRANSITIONS.items())
EXPECTED: Final = (*FAULTS, *LIFE, *REQUESTS, *OF_GROUPS, *STATES)


def missing(counted: Mapping[str, int]) -> list[str]:
    """Return what should have happened and did not."""
    return [what for what in EXPECTED if not counted.get(what)]


def table(counted: Counter[str]) -> str:
    """Return how often everything happened."""
    others = sorted(counted.keys() - set(EXPECTED))
    parts = {
        "what breaks": FAULTS,
        "what becomes of a message": LIFE,
        "what becomes of a request": REQUESTS,
        "what becomes of a group": OF_GROUPS,
        "what a client goes through": STATES,
    }
    lines: list[str] = []
    for title, names in (parts | {"what else": tuple(others)}).items():
        lines += [title, *(f"{counted[name]:9}  {name}" for name in names)]
    return "\n".join(lines)
