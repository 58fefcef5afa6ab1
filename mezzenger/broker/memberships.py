"""Which groups there are, and who joins and leaves them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from mezzenger.broker.adoption import Adoption
from mezzenger.broker.deliveries import Deliveries
from mezzenger.broker.effects import AddGroup, DropGroup, Reply
from mezzenger.broker.groups import Group
from mezzenger.broker.peers import Member, Peer
from mezzenger.broker.restored import Total
from mezzenger.broker.routing import Routing
from mezzenger.errors import InvalidName, ProtocolError
from mezzenger.patterns import check_pattern
from mezzenger.protocol import commands
from mezzenger.protocol.commands import (
    Command,
    Declined,
    Failed,
    Groups,
    GroupState,
    Join,
    Leave,
    ListGroups,
    Subscribed,
)
from mezzenger.queues import check_group, queue_of, split_queue

GROUPS_PER_ANSWER: Final = 500


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """What is to be known of the settings."""

    max_groups: int
    queues: tuple[str, ...] = ()
    """Of groups that are there from the start, whether somebody joined them or not."""


class Memberships:
    """Groups are there from their first member, or from the settings, until they are dropped.

    Args:
        options: Limits, and what the settings say of groups.
        routing: Knows the groups.
        deliveries: Bring members what waits for them.
        adoption: Makes groups, and hands them what waited for a first subscriber.
        answer: Sends a command to a peer, if it is still there.
    """

    def __init__(
        self,
        options: GroupOptions,
        routing: Routing,
        deliveries: Deliveries,
        adoption: Adoption,
        answer: Callable[[bytes, Command], None],
    ) -> None:
        self._options = options
        self._routing = routing
        self._deliveries = deliveries
        self._adoption = adoption
        self._counters = deliveries.fates.counters
        self._effects = deliveries.fates.effects
        self._answer = answer

    def restored(self, totals: Iterable[Total]) -> None:
        """Take in the groups of the last run, and make those that the settings want."""
        for total in totals:
            self._routing.add_group(total.name, total.since).delayed.add(total.delayed, total.delayed_size)
        for queue in self._options.queues:
            self.ensure(queue)

    def is_leaving(self, queue: str) -> bool:
        """Whether a queue is that of a group that is being dropped."""
        group = self._routing.find_group(queue)
        return group is not None and group.is_leaving

    def ensure(self, queue: str) -> Group:
        """Return the group with this queue; make it if it is not there."""
        group = self._routing.find_group(queue)
        if group is None:
            group = self._adoption.add_group(queue)
            group.asked = []
        return group

    def join(self, peer: Peer, join: Join, now: float) -> None:
        """Let a peer be a member of a group.

        Raises:
            ProtocolError: The names cannot be used.
        """
        queue = _queue(join.name, join.group)
        reason = self._objection(peer, join, queue)
        if reason is not None:
            self._answer(peer.id, Declined(join.request, *reason))
            return
        group = self.ensure(queue)
        if peer.id not in group.members:
            if not group.members:
                group.order_by = join.order_by
            self._deliveries.join(group, Member(peer, queue, join.prefetch, join.max_runtime), now)
        if group.asked is None:
            self._answer(peer.id, Subscribed(join.request))
        else:
            group.asked.append((peer.id, join.request))

    def leave(self, peer: Peer, leave: Leave, now: float) -> None:
        """Let a peer be a member no more."""
        member = peer.members.get(queue_of(leave.name, leave.group))
        if member is not None:
            self._deliveries.leave(member, now)

    def ask(self, peer: Peer, question: ListGroups | commands.DropGroup) -> None:
        """Answer a question of a peer.

        Raises:
            ProtocolError: The names cannot be used.
        """
        if isinstance(question, ListGroups):
            queues = sorted(queue for queue in self._routing.by_queue if queue > question.after)
            states = [self._state(self._routing.group(queue)) for queue in queues[:GROUPS_PER_ANSWER]]
            self._answer(peer.id, Groups(question.request, states))
            return
        queue = _queue(question.name, question.group)
        group = self._routing.find_group(queue)
        if group is None or group.is_leaving:
            text = f"there is no group {question.group!r} of {question.name!r}"
            self._answer(peer.id, Failed(question.request, "group", text))
        elif group.members:
            text = f"group {question.group!r} of {question.name!r} has {len(group.members)} members; stop them first"
            self._answer(peer.id, Failed(question.request, "group", text))
        else:
            group.is_leaving = True
            # Who had something in hand when it left acknowledges it too late.
            self._deliveries.pending.forget_late(queue)
            messages = self._deliveries.pending.of(queue)[0] + group.delayed.frames
            self._effects += [DropGroup(queue), Reply(peer.id, question.request, messages)]

    def added(self, change: AddGroup) -> None:
        """Take note that the store knows a group."""
        group = self._routing.group(change.name)
        for peer_id, request in group.asked or ():
            self._answer(peer_id, Subscribed(request))
        group.asked = None

    def not_added(self, change: AddGroup, reason: str, text: str) -> None:
        """Take note that the store does not know a group: its members must not rely on it."""
        group = self._routing.group(change.name)
        for peer_id, request in group.asked or ():
            self._answer(peer_id, Declined(request, reason, text))
        group.asked = None

    def dropped(self, change: DropGroup) -> None:
        """Take note that the store has forgotten a group."""
        group = self._routing.group(change.name)
        pending = self._deliveries.pending
        self._deliveries.evict(change.name)
        self._counters.dropped["group"] += pending.drop(change.name) + group.delayed.frames
        pending.delayed.add(-group.delayed.frames, -group.delayed.size)
        self._routing.drop_group(change.name)

    def not_dropped(self, change: DropGroup) -> None:
        """Take note that the store could not forget a group."""
        self._routing.group(change.name).is_leaving = False

    def _objection(self, peer: Peer, join: Join, queue: str) -> tuple[str, str] | None:
        """Return why a peer cannot join, as a reason and a text."""
        group = self._routing.find_group(queue)
        what = f"group {join.group!r} of {join.name!r}"
        if group is None:
            limit = self._options.max_groups
            if len(self._routing.by_queue) < limit:
                return None
            return "groups", f"there are {limit} groups already (the server's setting server.max_groups)"
        if group.is_leaving:
            return "group", f"{what} is being dropped; try again"
        others = group.members.keys() - {peer.id}
        if others and group.order_by != join.order_by:
            return (
                "order_by",
                f"{what} keeps order by {group.order_by!r}, as its members have it, not {join.order_by!r}",
            )
        return None

    def _state(self, group: Group) -> GroupState:
        pattern, name = split_queue(group.queue)
        messages, size = self._deliveries.pending.of(group.queue)
        in_hand = sum(len(member.in_hand) for member in group.members.values())
        return GroupState(pattern, name or "", len(group.members), messages, size, in_hand, group.delayed.frames)


def _queue(name: str, group: str) -> str:
    try:
        return queue_of(check_pattern(name), check_group(group))
    except InvalidName as error:
        raise ProtocolError("name", str(error)) from None
