"""The account of every stored message, kept from what was committed, beside the broker and the store.

A message is in one place at a time: pending, delayed, dead; at last acknowledged, expired, dropped or discarded, and
each of these for a reason that is checked when the broker decides it, by the broker's clock. A frame holds one message
or several; ``left`` has those of its messages that nobody has acknowledged. A message that is kept for subscribers and
for groups has a life in the queue of each.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from mezzenger.broker.effects import (
    AddGroup,
    Adopt,
    Attempt,
    Bury,
    Change,
    Discard,
    DropGroup,
    Effect,
    Origin,
    Requeue,
    Retain,
    Settle,
    Store,
    Unretain,
)
from mezzenger.broker.room import RoomOptions
from mezzenger.broker.stats import BrokerStats
from mezzenger.queues import is_group, split_queue
from tests.simulation.clock import Clock
from tests.simulation.frames import contents_of, header_of
from tests.simulation.policies import MAX_DEAD_LETTERS, ORDERED, RULES, matches
from tests.simulation.values import Published, Values

LATE: Final = 1.5
"""Seconds in which the store, slow or full as it may be, takes note that something has expired or is due."""
KEPT: Final = ("pending", "delayed", "dead")


@dataclass(slots=True, eq=False)
class Life:
    """Of one frame in one queue, from its commit on."""

    client: int
    sequence: int
    """As the frame has it: that of a batch's message, if these are stored one by one."""
    queue: str
    name: str
    key: str | None
    """By which some groups keep order."""
    messages: int
    frame: bytes = field(repr=False)
    number: int
    place: str
    due: float | None
    """Of a delayed one."""
    expires: float | None
    since: float
    """When it was committed, by the steady clock."""
    publish: Published
    """Which it is, or is a part of."""
    left: set[int] = field(default_factory=set)
    again: float | None = None
    """When it is to be sent again, as far as the store was told."""
    pause: tuple[int, float] | None = None
    """Which client could not handle it, and until when that client must not get it again."""
    is_pause_stored: bool = False
    is_adopted: bool = False
    queues: set[str] = field(default_factory=set)
    """In which it has been."""

    @property
    def group(self) -> str | None:
        """The queue of the group that it is for, if it is."""
        return self.queue if is_group(self.queue) else None


def groups_of(name: str, groups: Iterable[str]) -> set[str]:
    """Return which of these groups get the messages of a name."""
    return {queue for queue in groups if matches(split_queue(queue)[0], name)}


class Ledger:
    """What the store must have, and why the rest is gone.

    Args:
        clock: Is told what happens to messages.
        room: For how much there is room.
    """

    def __init__(self, clock: Clock, room: RoomOptions) -> None:
        self._clock = clock
        self.room = room
        self.lives: dict[tuple[int, int, str], Life] = {}
        """All that ever was committed, by client, sequence and the queue in which it was stored."""
        self.publishes: dict[tuple[int, int], set[tuple[int, int, str]]] = {}
        """What each publish must become, by client and sequence."""
        self._messages: dict[tuple[int, int], int] = {}
        """How many messages are in each publish."""
        self._stored_publishes: set[tuple[int, int]] = set()
        self.queue_of_number: dict[int, str] = {}
        self.groups: set[str] = set()
        """What the store knows, by queue."""
        self._adding: set[str] = set()
        self._adopting: set[str] = set()
        """Queues of which all goes into another one with the next commit."""
        self._since: dict[str, int] = {}
        """By the queue of a group, the highest number of what was decided before it."""
        self._promised: dict[str, set[int]] = {}
        """What a group that is being made inherits: numbers, by its queue."""
        self._coming: dict[int, str] = {}
        """The queues of what will be pending with the next commit, by number."""
        self._highest = 0
        """The highest number of what was decided."""
        self.dropping: set[str] = set()
        self.kept: dict[int, Life] = {}
        """What the store has, by number."""
        self._kept_in: dict[str, dict[int, Life]] = {}
        """The same, by queue."""
        self.handled: set[tuple[int, int, str, int]] = set()
        """Client, sequence, queue and index of what a callback ran to its end for."""
        self.confirmed: set[tuple[int, int]] = set()
        self.values = Values(clock)
        self.asked: dict[str, set[int]] = {"resend": set(), "drop": set()}
        """Numbers of the dead letters for which the operator asked for that."""
        self.asked_groups: set[str] = set()
        """Those that the operator has asked to be dropped."""
        self._decided: dict[int, str] = {}
        """What will leave its place with the next commit, by number, and where it goes."""
        self._storing: dict[int, Store] = {}
        self.made_way: Counter[str] = Counter()
        """How many frames have left each queue to make room for what is to be stored there at once."""
        self.full_until = 0.0
        """When some dead letters left, by the steady clock, and before there was no room for another one."""
        self._handled_before = 0
        """Messages that were handled, and are counted again with the batch that was dropped with its group."""
        self._before: Counter[str] = Counter()
        """Messages in each place when the server's run began."""

    # What happens.

    def confirm(self, client: int, sequence: int) -> None:
        """Take note that a client was told that a frame is stored."""
        lives = self.publishes.get((client, sequence))
        assert lives, f"{client} {sequence} is confirmed and not stored"
        missing = lives - self.lives.keys()
        assert not missing, f"{client} {sequence} is confirmed and not stored as {sorted(missing)}"
        self.confirmed.add((client, sequence))

    def begin(self, *, is_clock_right: bool) -> None:
        """Take note that the server starts: what was decided and not committed is void.

        Args:
            is_clock_right: Whether the wall clock goes on from where it was; else pauses may be shorter or longer.
        """
        self._decided.clear()
        self._storing.clear()
        self._adding.clear()
        self._adopting.clear()
        self._since = {queue: since for queue, since in self._since.items() if queue in self.groups}
        self._promised.clear()
        self._coming.clear()
        self._highest = max((*self.kept, *self._since.values()), default=0)
        self.dropping.clear()
        self._before = self.left()
        self.values.begin()
        self._handled_before = 0
        for life in self.kept.values():
            if not (life.is_pause_stored and is_clock_right):
                life.pause = None

    def decided(self, effect: Effect, now: float) -> None:
        """Check whether the broker has a reason for what it decides."""
        match effect:
            case Store():
                self._check_store(effect)
                self.made_way.pop(effect.name, None)
                self._storing[effect.number] = effect
                self._given(effect.number)
                if effect.due is None:
                    self._coming[effect.number] = effect.name
                    publish = self._publish_of(effect)
                    self.values.storing(effect.number, header_of(effect.frame).name, publish, effect.expires)
            case AddGroup() | DropGroup() | Adopt():
                self._decide_queue(effect)
            case Settle():
                self._decide(effect.number, "pending", self._reason(self.kept[effect.number], now))
            case Bury():
                self._check_bury(effect)
                self._decide(effect.number, "pending", "dead")
            case Requeue():
                self._check_requeue(effect, now)
                self._given(effect.number)
                self._coming[effect.number] = effect.queue
                self._decide(effect.former, str(effect.origin), "pending")
                if effect.origin is Origin.DELAYED:
                    life = self.kept[effect.former]
                    self.values.storing(effect.number, life.name, life.publish, life.expires)
            case Retain() | Unretain():
                self.values.decided(effect, now)
            case Discard():
                assert effect.number in self.asked["drop"], f"{effect} was not asked for"
                self._decide(effect.number, "dead", "discarded")

    def published(self, publish: Published, lives: set[tuple[int, int, str]]) -> None:
        """Take note of what a publish that is being stored must become, by client, sequence and queue."""
        self.publishes[publish.client, publish.sequence] = lives
        self._messages[publish.client, publish.sequence] = publish.messages

    def refused(self, stores: Iterable[Store]) -> None:
        """Take note that the store did not take these."""
        for store in stores:
            del self._storing[store.number]
            self._coming.pop(store.number, None)
            self.values.refused(store.number)

    def failed(self, changes: Sequence[Change]) -> None:
        """Take note that the store has made none of these, and will make none in this run."""
        self.refused(change for change in changes if isinstance(change, Store))
        for change in changes:
            # Who asked for these may ask again.
            if isinstance(change, Requeue):
                del self._decided[change.former]
                del self._coming[change.number]
            elif isinstance(change, Discard):
                del self._decided[change.number]
            elif isinstance(change, DropGroup):
                self.dropping.discard(change.name)

    def committed(self, changes: Sequence[Change]) -> None:
        """Take note of what is in the store from now on."""
        self.values.committed(changes)
        if any(isinstance(change, Discard | Requeue) for change in changes) and self.is_full_of_dead:
            self.full_until = self._clock.now
        publishes = {(change.client, change.sequence) for change in changes if isinstance(change, Store)}
        twice = publishes & self._stored_publishes
        assert not twice, f"{twice} is stored twice"
        self._stored_publishes |= publishes
        for change in changes:
            match change:
                case AddGroup() | DropGroup() | Adopt():
                    self._change_queues(change)
                case Store():
                    self._stored(change)
                case Attempt():
                    self._attempted(change)
                case Bury():
                    self._narrow(change.number, change.indexes)
                    self._moved(change.number, change.number)
                case Settle() | Discard():
                    self._moved(change.number, change.number)
                case Requeue():
                    del self._coming[change.number]
                    self._moved(change.former, change.number, change.queue)
        self._check_inherited()

    # What must hold.

    @property
    def all_groups(self) -> set[str]:
        """The queues of the groups that get what is published now."""
        return (self.groups | self._adding) - self.dropping

    def promise(self, heir: str, names: Container[str]) -> None:
        """Take note that a group that is being made inherits what is pending, or will be, of these names."""
        numbers = {life.number for life in self.kept.values() if life.place == "pending" and life.queue in names}
        numbers -= self._decided.keys()
        self._promised[heir] = numbers | {number for number, queue in self._coming.items() if queue in names}

    def names_without_groups(self) -> set[str]:
        """Return of which names something is pending, or will be, for which there is no group."""
        queues = {queue for queue, lives in self._kept_in.items() if lives} | set(self._coming.values())
        groups = self.groups | self._adding
        return {queue for queue in queues if not is_group(queue) and not groups_of(queue, groups)}

    def heirs(self, requeue: Requeue) -> set[str | None]:
        """Return which groups may inherit what is requeued, where nobody subscribes: the eldest, if none has a copy."""
        groups = set() if is_group(requeue.name) else groups_of(requeue.name, self.groups | self._adding)
        if any(requeue.former > self._since[queue] for queue in groups):
            return {None}
        staying = {queue: self._since[queue] for queue in groups - self.dropping}
        return {queue for queue, since in staying.items() if since == min(staying.values())} or {None}

    def pending_in(self, queue: str) -> list[Life]:
        """Return what is pending in a queue, and will be."""
        return self._waiting(queue)

    def place_of(self, life: Life) -> str:
        """Return where something is, or will be with the next commit."""
        return self._decided.get(life.number, life.place)

    @property
    def is_full_of_dead(self) -> bool:
        """Whether there is no room for another dead letter; those that are leaving still take up room."""
        dead = sum(life.place == "dead" or self.place_of(life) == "dead" for life in self.kept.values())
        return dead >= MAX_DEAD_LETTERS

    def is_pending(self, client: int, sequence: int, name: str) -> bool:
        """Whether a frame is, and stays, to be acknowledged by subscribers."""
        life = self.lives.get((client, sequence, name))
        if life is None or life.queue != name or name in self._adopting:
            return False
        return self.place_of(life) == "pending"

    def left(self) -> Counter[str]:
        """Count the messages that nobody has acknowledged, by the place that they are in."""
        counted: Counter[str] = Counter()
        for life in self.kept.values():
            counted[life.place] += len(life.left)
        return counted

    def check_moments(self, now: float, since: float) -> None:
        """Check that nothing waits that should have expired, or been delivered, since the server could see to it."""
        for life in self.kept.values():
            moment = life.due if life.place == "delayed" else life.expires
            if self._clock.now < life.since + LATE:
                continue  # it may have waited for room until its moment had passed
            is_late = life.place != "dead" and moment is not None and max(moment, since) < now - LATE
            assert not is_late or life.number in self._decided, f"at {now}: forgotten: {life}"

    def check_stats(self, stats: BrokerStats) -> None:
        """Check that the broker's counters add up; to be called when all it has decided is committed."""
        before, left = self._before, self.left()
        gone = stats.acked + sum(stats.dropped.get(why, 0) for why in ("expired", "overflow", "group"))
        gone += stats.discarded - self._handled_before
        assert before.total() + stats.stored == gone + left.total(), f"{before} before, {left} left: {stats}"
        dead = before["dead"] + stats.buried - stats.resent - stats.discarded
        assert dead == left["dead"], f"{before['dead']} before, {left['dead']} dead now: {stats}"
        counted = [(stats.pending, stats.pending_size), (stats.delayed, stats.delayed_size)]
        counted.append((stats.dead, stats.dead_size))
        for place, in_stats in zip(KEPT, counted, strict=True):
            lives = [life for life in self.kept.values() if life.place == place]
            assert in_stats == (len(lives), sum(len(life.frame) for life in lives)), f"{place}: {stats}"

    # Reasons.

    def _decide_queue(self, effect: AddGroup | DropGroup | Adopt) -> None:
        if isinstance(effect, AddGroup):
            assert effect.since >= self._highest, f"{effect}, where {self._highest} was given before"
            self._adding.add(effect.name)
            self._since[effect.name] = self._highest
        elif isinstance(effect, Adopt):
            self._adopting.add(effect.name)
        else:
            assert effect.name in self.asked_groups, f"{effect} was not asked for"
            self.dropping.add(effect.name)

    def _given(self, number: int) -> None:
        """Check that what is given a number is younger than what is there, by that number too."""
        assert number > max(self._since.values(), default=0), f"{number} is below {self._since}"
        self._highest = max(self._highest, number)

    def _decide(self, number: int, place: str, then: str) -> None:
        life = self.kept[number]
        assert life.place == place, f"{life} is not {place}"
        assert number not in self._decided, f"{life} is {self._decided[number]} already, now {then}"
        self._decided[number] = then
        if then not in KEPT:
            self._clock.tell(then, life.queue, number)
        is_in_lane = then == "expired" and life.queue in ORDERED and life.key is not None
        if is_in_lane and any(one.key == life.key for one in self._waiting(life.queue)):
            self._clock.tell("expired in a lane", life.queue, number)

    def _reason(self, life: Life, now: float) -> str:
        """Return why something is settled."""
        if not self._unhandled(life, life.left):
            return "acked"
        if life.expires is not None and life.expires <= now:
            return "expired"
        assert RULES[life.name].overflow == "drop_oldest", f"at {now}: confirmed and lost: {life}"
        self._check_oldest(life)
        self.made_way[life.queue] += 1
        return "dropped"

    def _check_oldest(self, life: Life) -> None:
        oldest = min(one.number for one in self._waiting(life.queue))
        assert life.number == oldest, f"{life} makes room, and {oldest} is older"

    def _check_bury(self, bury: Bury) -> None:
        life = self.kept[bury.number]
        policy = RULES[life.name]
        assert not self.is_full_of_dead, f"{bury}, where there are too many"
        if bury.reason == "max_attempts":
            assert bury.attempts >= policy.max_attempts, f"{bury} is too early"
        else:
            assert policy.overflow == "dead_letter", f"{bury}, where the policy has no dead letters"
            self._check_oldest(life)
            self.made_way[life.queue] += 1
        self._clock.tell(f"buried: {bury.reason}", bury.name, bury.number)

    def _check_requeue(self, requeue: Requeue, now: float) -> None:
        assert requeue.former in self.kept, f"{requeue} of what should not be there"
        life = self.kept[requeue.former]
        if requeue.origin is Origin.DEAD:
            assert requeue.former in self.asked["resend"], f"{requeue} was not asked for"
            self._clock.tell("resent", life.name, requeue.former, "is now", requeue.number)
        else:
            assert life.due is not None
            assert life.due <= now, f"at {now}: too early: {life}"
            self._clock.tell("due", life.name, requeue.former, "is now", requeue.number)

    def _check_store(self, store: Store) -> None:
        """Check that there is room, whatever else is not counted yet."""
        policy = RULES[header_of(store.frame).name]
        storing = [one for one in self._storing.values() if one.name == store.name and one.due is None]
        waiting = [] if store.name in self._adopting else self._waiting(store.name)
        if policy.max_pending is not None:
            messages = sum(one.messages for one in waiting) + sum(one.messages for one in storing) + store.messages
            assert messages <= policy.max_pending, f"{store} where {messages} are too many"
        if policy.max_pending_size is not None:
            size = sum(len(one.frame) for one in waiting) + sum(len(one.frame) for one in storing) + len(store.frame)
            assert size <= policy.max_pending_size, f"{store} where {size} bytes are too many"
        self._check_room(store)

    def _check_room(self, store: Store) -> None:
        """Check likewise that there is room in the whole server."""
        stay = [life for life in self.kept.values() if self.place_of(life) in KEPT]
        storing = [store, *self._storing.values()]
        size = sum(len(life.frame) for life in stay) + sum(len(one.frame) for one in storing)
        assert size <= self.room.max_pending_size, f"{store} where {size} bytes are too many in all"
        if self.room.max_pending is not None:
            pending = [life for life in stay if life.place == "pending" and life.number not in self._decided]
            messages = sum(life.messages for life in pending) + sum(one.messages for one in storing if one.due is None)
            assert messages <= self.room.max_pending, f"{store} where {messages} are too many in all"

    def _waiting(self, queue: str) -> list[Life]:
        """Return what is pending in a queue, and will be."""
        lives = (life for life in self._kept_in.get(queue, {}).values() if life.place == "pending")
        return [life for life in lives if life.number not in self._decided]

    def _publish_of(self, store: Store) -> Published:
        return Published(store.client, store.sequence, self._messages[store.client, store.sequence])

    def _keep(self, life: Life) -> None:
        self.kept[life.number] = life
        self._kept_in.setdefault(life.queue, {})[life.number] = life

    def _keep_no_more(self, number: int) -> Life:
        life = self.kept.pop(number)
        del self._kept_in[life.queue][number]
        return life

    # What a commit does.

    def _stored(self, store: Store) -> None:
        contents = contents_of(store.frame)
        header = contents.header
        key = header.client, header.sequence, store.name
        assert key not in self.lives, f"{store} is stored twice"
        del self._storing[store.number]
        self._coming.pop(store.number, None)
        place = "pending" if store.due is None else "delayed"
        life = Life(
            *key,
            header.name,
            contents.extra.headers.get("key"),
            header.messages,
            store.frame,
            store.number,
            place,
            store.due,
            store.expires,
            self._clock.now,
            self._publish_of(store),
        )
        life.left = set(range(store.messages))
        life.queues = {store.name}
        self.lives[key] = life
        self._keep(life)
        self.queue_of_number[store.number] = store.name
        self._clock.tell("stored" if place == "pending" else "delayed", store.name, store.number)

    def _change_queues(self, change: AddGroup | DropGroup | Adopt) -> None:
        match change:
            case AddGroup():
                self.groups.add(change.name)
                self._clock.tell("group added", change.name)
            case DropGroup():
                self._dropped(change.name)
            case Adopt():
                self._adopted(change)

    def _adopted(self, adopt: Adopt) -> None:
        self._adopting.discard(adopt.name)
        # Also what is acknowledged, or becomes a dead letter, with the changes that follow.
        for life in [life for life in self._kept_in.get(adopt.name, {}).values() if life.place == "pending"]:
            self._keep_no_more(life.number)
            self._inherit(life, adopt.heir)
            self._keep(life)

    def _inherit(self, life: Life, heir: str) -> None:
        self._clock.tell("adopted", life.queue, life.number, "by", heir)
        life.queue = self.queue_of_number[life.number] = heir
        life.queues.add(heir)
        life.is_adopted = True

    def _check_inherited(self) -> None:
        """Check that a group which the store knows has what it inherits; a crash may be next."""
        for heir in self._promised.keys() & self.groups:
            for number in self._promised.pop(heir):
                life = self.kept.get(number)
                is_there = life is None or life.place != "pending" or life.queue == heir
                assert is_there, f"{heir} should have inherited {life}"

    def _dropped(self, queue: str) -> None:
        self.groups.remove(queue)
        del self._since[queue]
        self._adding.discard(queue)
        self.dropping.remove(queue)
        self._clock.tell("group dropped", queue)
        for life in [life for life in self._kept_in.get(queue, {}).values() if life.place != "dead"]:
            assert life.number not in self._decided, f"{self._decided[life.number]} though dropped: {life}"
            life.place = "dropped with its group"
            self._handled_before += life.messages - len(life.left)
            self._keep_no_more(life.number)
            self._clock.tell("dropped with its group", queue, life.number)

    def _attempted(self, attempt: Attempt) -> None:
        self._narrow(attempt.number, attempt.indexes)
        life = self.kept[attempt.number]
        life.again = attempt.due
        if life.pause is not None and attempt.due is not None and attempt.due > life.pause[1] - 0.001:
            life.is_pause_stored = True

    def _narrow(self, number: int, indexes: tuple[int, ...] | None) -> None:
        """Check that what is not left any more was acknowledged."""
        life = self.kept[number]
        left = set(range(life.messages) if indexes is None else indexes)
        assert left, f"nothing is left of {life}"
        assert left <= life.left, f"{left} is left, though it was acknowledged: {life}"
        lost = self._unhandled(life, life.left - left)
        assert not lost, f"confirmed and lost: {lost} of {life}"
        if left < life.left:
            self._clock.tell("acked in part", life.name, life.number)
        life.left = left

    def _unhandled(self, life: Life, indexes: set[int]) -> set[int]:
        """Return which of these messages no callback of the queue has run to its end for."""
        client, sequence = life.client, life.sequence
        return {
            index
            for index in indexes
            if not any((client, sequence, queue, index) in self.handled for queue in life.queues)
        }

    def _moved(self, former: int, number: int, queue: str | None = None) -> None:
        life = self._keep_no_more(former)
        if life.place == "dead":
            life.expires = None
        life.place = self._decided.pop(former)
        life.number = number
        if queue is not None and queue != life.queue:
            self._inherit(life, queue)
        self.queue_of_number[number] = life.queue
        life.again = life.pause = None
        if life.place in KEPT:
            self._keep(life)
