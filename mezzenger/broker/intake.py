"""What is to be stored: publishes with ``ack=1``, confirmed or refused, and what was kept apart until now."""

from collections.abc import Callable, Sequence

from mezzenger.broker.deliveries import Deliveries
from mezzenger.broker.effects import Forget, Know, Origin, Refusal, Requeue, Store
from mezzenger.broker.overflow import Overflow, Publication
from mezzenger.broker.publishers import MAX_REFUSED, Publisher, Publishers
from mezzenger.broker.restored import Restored
from mezzenger.broker.retained import LastValues
from mezzenger.broker.room import Copy, Room, RoomOptions
from mezzenger.broker.routing import Routing
from mezzenger.errors import ProtocolError
from mezzenger.protocol import wire
from mezzenger.protocol.commands import Command, Confirm, Hello, Refuse, fit_text
from mezzenger.queues import is_group


class TooManyRefusedError(Exception):
    """So many frames of a client were refused that it must connect again, and say which it still sends."""


class Intake:
    """Takes in frames to be stored.

    Args:
        options: Limits.
        routing: Knows the queues in which a message is to be stored.
        deliveries: Is given what is stored.
        retained: Is told of it, too.
        answer: Sends a command to a peer.
    """

    def __init__(
        self,
        options: RoomOptions,
        routing: Routing,
        deliveries: Deliveries,
        retained: LastValues,
        answer: Callable[[bytes, Command], None],
    ) -> None:
        self._policies = options.policies
        self._routing = routing
        self._deliveries = deliveries
        self._retained = retained
        self._counters = deliveries.fates.counters
        self._effects = deliveries.fates.effects
        self._answer = answer
        self._publishers = Publishers()
        self.last_number = 0
        """The highest that was given."""
        self._room = Room(options, deliveries.pending)
        self._overflow = Overflow(self._room, deliveries, self._copies, self._store, self._refuse_for_lack)

    def restored(self, restored: Restored) -> None:
        """Take in what the last run left."""
        self.last_number = restored.last_number
        for known in restored.publishers:
            self._publishers.restore(known)
        for total in restored.totals:
            self._deliveries.pending.restore(total)

    def greet(self, hello: Hello) -> Publisher | None:
        """Return what is known of a client that says Hello; None if it is not who it says it is."""
        publisher = self._publishers.greet(hello.client, hello.key)
        if publisher is None:
            return None
        for client in self._publishers.take_forgotten():
            self._effects.append(Forget(client))
        if publisher.is_known:
            # It is among those seen last again.
            self._effects.append(Know(hello.client, hello.key))
        if publisher.forget_before(hello.oldest):
            self._effects.append(Forget(hello.client, hello.oldest))
        return publisher

    def left(self, client: int) -> None:
        """Take note that a client is not connected any more."""
        self._publishers.left(client)
        self._overflow.left(client)

    def publish(self, client: int, peer_id: bytes, header: wire.Header, frame: bytes, now: float) -> None:
        """Take in a frame of a client.

        Raises:
            ProtocolError: It is malformed, or bears another client's id; the client was told.
            TooManyRefusedError: The client must connect again.
        """
        if header.client != client:
            self._answer(peer_id, Refuse(header.sequence, "client", "the frame bears another client's id"))
            raise ProtocolError("client", "a data frame with another client's id")
        publisher = self._publishers.of(client)
        if header.sequence in publisher.storing or self._overflow.holds(client, header.sequence):
            return
        if len(publisher.refused) > MAX_REFUSED:
            raise TooManyRefusedError
        if publisher.was_stored(header.sequence):
            self._counters.repeated += 1
            self._answer(peer_id, Confirm([header.sequence]))
            return
        extra = self._read_extra(client, header, frame)
        due, expires = self._moments(header.name, extra, now)
        if not self._overflow.admit(Publication(header, frame, due, expires), now):
            self._leave_out(client, header.sequence)

    def retry(self, now: float) -> None:
        """Store what had to wait for room, as far as there is some by now."""
        self._overflow.retry(now)

    def committed(self, stores: Sequence[Store], now: float) -> None:
        """Take note that the store has these frames: confirm and deliver them."""
        confirmed: dict[int, dict[int, None]] = {}
        for store in stores:
            confirmed.setdefault(store.client, {})[store.sequence] = None
            self._publishers.of(store.client).kept(store.sequence)
            self._counters.stored += store.messages
            self._room.answered(store.name, store.messages, len(store.frame))
        for client, sequences in confirmed.items():
            self._answer_client(client, Confirm(list(sequences)))
        for store in stores:
            if store.due is None:
                self._deliveries.stored(store, now)
            else:
                self._deliveries.pending.delayed.add(1, len(store.frame))
                group = self._routing.find_group(store.name)
                if group is not None:
                    group.delayed.add(1, len(store.frame))

    def commit_failed(self, stores: Sequence[Store], reason: str, text: str) -> None:
        """Take note that the store has none of these frames: refuse them."""
        for store in stores:
            self._room.answered(store.name, store.messages, len(store.frame))
            if store.due is None:
                self._deliveries.not_stored(store.name, store.number)
        for client, sequence in dict.fromkeys((store.client, store.sequence) for store in stores):
            self._refuse(client, sequence, reason, text)

    def requeue(self, origin: Origin, former: int, name: str, messages: int, size: int) -> Requeue:
        """Have a frame that was kept apart put among those to be delivered, behind all; a group may inherit it."""
        heir = self._routing.heir(name, former)
        requeue = Requeue(origin, former, self.next_number(), name, messages, size, heir)
        self._deliveries.requeuing(requeue.queue, requeue.number, size)
        self._effects.append(requeue)
        return requeue

    def next_number(self) -> int:
        """Return a number above all that were given before."""
        self.last_number += 1
        return self.last_number

    def _read_extra(self, client: int, header: wire.Header, frame: bytes) -> wire.Extra:
        """Check a frame to its last byte."""
        try:
            return wire.read_contents(frame, header).extra
        except ProtocolError as error:
            self._refuse(client, header.sequence, error.reason, str(error))
            raise

    def _copies(self, publication: Publication) -> list[Copy]:
        """Return what is to be stored of a frame: a copy for each queue, and each message alone where members share."""
        header = publication.header
        copies = []
        for queue in self._routing.queues(header.name):
            is_parted = is_group(queue) and header.messages > 1
            size = publication.parts_size if is_parted else len(publication.frame)
            copies.append(Copy(queue, is_parted, size))
        return copies

    def _store(self, publication: Publication, copies: Sequence[Copy]) -> None:
        header = publication.header
        publisher = self._publishers.of(header.client)
        if not publisher.is_known:
            publisher.is_known = True
            self._effects.append(Know(header.client, publisher.key))
            self._effects.extend(Refusal(header.client, sequence) for sequence in sorted(publisher.refused))
        if publisher.keep(header.sequence):
            self._effects.append(Refusal(header.client, header.sequence, is_lifted=True))
        numbers: dict[str, int] = {}
        for copy in copies:
            frames = publication.parts if copy.is_parted else (publication.frame,)
            for frame in frames:
                messages = header.messages // len(frames)
                numbers[copy.queue] = self._store_frame(publication, copy.queue, frame, messages)
        if publication.due is None:
            name, queue = header.name, next(iter(numbers))
            # What is stored for subscribers comes first.
            self._retained.storing(
                numbers[queue], name, publication.frame, publication.expires, is_pending=queue == name
            )

    def _store_frame(self, publication: Publication, queue: str, frame: bytes, messages: int) -> int:
        header, due, expires = publication.header, publication.due, publication.expires
        size = len(frame)
        self._room.taken(queue, messages, size)
        number = self.next_number()
        is_offered = due is None and self._deliveries.storing(queue, number, size)
        self._effects.append(
            Store(number, header.client, header.sequence, queue, messages, frame, is_offered, due, expires)
        )
        return number

    def _moments(self, name: str, extra: wire.Extra, now: float) -> tuple[float | None, float | None]:
        """Return when a frame is due, if not at once, and when it expires, if ever."""
        policy = self._policies.of(name)
        delay = policy.delay if extra.delay is None else extra.delay
        ttl = policy.ttl if extra.ttl is None else extra.ttl
        return now + delay if delay else None, None if ttl is None else now + delay + ttl

    def _refuse_for_lack(self, publication: Publication, text: str) -> None:
        self._refuse(publication.header.client, publication.header.sequence, "limit", text)

    def _refuse(self, client: int, sequence: int, reason: str, text: str) -> None:
        self._leave_out(client, sequence)
        self._answer_client(client, Refuse(sequence, reason, fit_text(text)))

    def _leave_out(self, client: int, sequence: int) -> None:
        """Note that a frame is not stored, though later ones may be."""
        publisher = self._publishers.of(client)
        publisher.refuse(sequence)
        if publisher.is_known:
            self._effects.append(Refusal(client, sequence))

    def _answer_client(self, client: int, command: Command) -> None:
        peer_id = self._publishers.of(client).peer
        if peer_id is not None:
            self._answer(peer_id, command)
