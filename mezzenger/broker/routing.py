"""Who gets what: the peers that subscribed to names and patterns, and the groups."""

from collections.abc import Sequence

from mezzenger.broker.groups import Group
from mezzenger.broker.peers import Peer
from mezzenger.pattern_table import PatternTable
from mezzenger.queues import is_group, split_queue


class Routing:
    """Finds, for a message's name, the subscribers, the groups, and the queues in which it is to be stored."""

    def __init__(self) -> None:
        self._peers: PatternTable[Peer] = PatternTable()
        self._groups: PatternTable[Group] = PatternTable()
        self.by_queue: dict[str, Group] = {}
        """All groups."""

    def __len__(self) -> int:
        """How many names and patterns have a subscriber."""
        return len(self._peers)

    def add(self, pattern: str, peer: Peer) -> None:
        """Subscribe a peer to a name or pattern."""
        peer.names.add(pattern)
        self._peers.add(pattern, peer.id, peer)

    def remove(self, pattern: str, peer: Peer) -> None:
        """Unsubscribe a peer from what it is subscribed to."""
        peer.names.remove(pattern)
        self._peers.remove(pattern, peer.id)

    def forget(self, peer: Peer) -> list[str]:
        """Unsubscribe a peer from all its names and patterns; return them."""
        patterns = sorted(peer.names)
        for pattern in patterns:
            self.remove(pattern, peer)
        return patterns

    def subscribers(self, name: str) -> Sequence[Peer]:
        """Return the peers that get each message of a name, groups left aside."""
        return self._peers.match(name)

    def subscribers_of_each(self, names: Sequence[str]) -> list[tuple[Peer, ...]]:
        """Return what ``subscribers`` does for each of many names."""
        return self._peers.match_each(names)

    def responders(self, name: str) -> Sequence[Peer]:
        """Return the peers that can answer a request: each subscriber, and each member of a group, once."""
        subscribers, groups = self.subscribers(name), self.groups_of(name)
        if not groups:
            return subscribers
        members = [member.peer for group in groups for member in group.members.values()]
        return list(dict.fromkeys([*subscribers, *members]))

    def add_group(self, queue: str, since: int) -> Group:
        """Let there be a group; all messages up to a number are older than it is."""
        group = self.by_queue[queue] = Group(queue, since)
        self._groups.add(split_queue(queue)[0], queue, group)
        return group

    def drop_group(self, queue: str) -> None:
        """Let there be a group no more."""
        del self.by_queue[queue]
        self._groups.remove(split_queue(queue)[0], queue)

    def group(self, queue: str) -> Group:
        """Return the group with this queue, which is there."""
        return self.by_queue[queue]

    def find_group(self, queue: str) -> Group | None:
        """Return the group with this queue, if it is there."""
        return self.by_queue.get(queue)

    def groups_of(self, name: str) -> Sequence[Group]:
        """Return the groups that get each message of a name."""
        return self._groups.match(name)

    def have_groups(self, names: Sequence[str]) -> bool:
        """Whether there is a group that gets the messages of one of these names."""
        return bool(self.by_queue) and any(self._groups.match_each(names))

    def queues(self, name: str) -> list[str]:
        """Return the queues in which a message is to be stored: those of its groups, and that of its subscribers.

        With neither, it waits in the queue of the subscribers for the first one.
        """
        groups = [group.queue for group in self.groups_of(name) if not group.is_leaving]
        return [name, *groups] if not groups or self.subscribers(name) else groups

    def heir(self, queue: str, number: int) -> str | None:
        """Return the queue of the group that inherits a message which was kept apart for a queue, if one does.

        It is the eldest, if nobody subscribes and no group has a copy.
        """
        if not self.by_queue or is_group(queue) or self.subscribers(queue):
            return None
        groups = self.groups_of(queue)
        if any(number > group.since for group in groups):
            return None
        heirs = [group for group in groups if not group.is_leaving]
        return min(heirs, key=lambda group: group.since).queue if heirs else None

    def is_served(self, queue: str) -> bool:
        """Whether there is somebody who gets what is in a queue."""
        if not is_group(queue):
            return bool(self.subscribers(queue))
        group = self.by_queue.get(queue)
        return group is not None and bool(group.members)
