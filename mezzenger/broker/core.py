"""The broker's rules, one short method for each command.

Nothing here waits, and nothing raises for what a peer sent: malformed input is counted, answered where there is
somebody to answer, and forgotten.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from mezzenger.broker.adoption import Adoption
from mezzenger.broker.broadcasts import Broadcasts
from mezzenger.broker.connections import ConnectionOptions, Connections
from mezzenger.broker.dead_letters import DeadLetters
from mezzenger.broker.deliveries import Deliveries
from mezzenger.broker.effects import (
    AddGroup,
    Adopt,
    Change,
    Discard,
    DropGroup,
    Effect,
    Find,
    Load,
    Origin,
    Reply,
    Requeue,
    Retain,
    Send,
    Store,
)
from mezzenger.broker.fates import DeliveryOptions
from mezzenger.broker.intake import Intake, TooManyRefusedError
from mezzenger.broker.memberships import GroupOptions, Memberships
from mezzenger.broker.peers import Peer
from mezzenger.broker.publishers import MAX_REFUSED
from mezzenger.broker.requests import RequestOptions, Requests
from mezzenger.broker.restored import Dead, Restored, Stored, Swept
from mezzenger.broker.retained import LastValues, RetainedOptions
from mezzenger.broker.room import RoomOptions
from mezzenger.broker.routing import Routing
from mezzenger.broker.stats import BrokerStats, Counters, Present, snapshot
from mezzenger.broker.subscribing import Subscribing
from mezzenger.broker.sweeper import Sweeper
from mezzenger.codecs import Buffer
from mezzenger.errors import ProtocolError
from mezzenger.protocol import commands, wire
from mezzenger.protocol.bundle import is_addressed
from mezzenger.protocol.commands import (
    Ack,
    ClientCommand,
    Command,
    Completed,
    DropDead,
    DropRetained,
    Failed,
    Hello,
    Join,
    Leave,
    ListDead,
    ListGroups,
    ListRetained,
    Nack,
    Ping,
    Pong,
    Request,
    ResendDead,
    Respond,
    ShowDead,
    Subscribe,
    Unsubscribe,
    fit_text,
)


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """What the broker needs to know of the settings."""

    connection: ConnectionOptions
    delivery: DeliveryOptions
    room: RoomOptions
    retained: RetainedOptions
    requests: RequestOptions
    groups: GroupOptions
    max_names: int
    """How many names and patterns one peer may subscribe to, and how many groups it may join."""


class Broker:
    """Who is connected, who gets what, what is stored and not yet acknowledged.

    The server's loop calls a method for everything that happens, with the time, and then does what ``take_effects()``
    returns, in that order. The time is in Unix seconds, but of a clock that is steady from the broker's beginning.

    Args:
        options: What it needs to know of the settings.
        random: Returns a random number between 0 and 1 at each call.
    """

    def __init__(self, options: BrokerOptions, random: Callable[[], float]) -> None:
        self._options = options
        self._max_message_size = options.connection.max_message_size
        self.effects: list[Effect] = []
        """What the loop must do now, in order."""
        self._counters = Counters()
        self._routing = Routing()
        self._deliveries = Deliveries(options.delivery, random, self._routing, self._counters, self.effects)
        self._retained = LastValues(
            options.retained, self._deliveries.pending, self._counters, self.effects, self._next_number
        )
        self._broadcasts = Broadcasts(self._routing, self._deliveries, self._retained, self._counters, self.effects)
        self._intake = Intake(options.room, self._routing, self._deliveries, self._retained, self._send)
        adoption = Adoption(self._routing, self._deliveries.pending, self.effects, self._intake)
        self._connections = Connections(options.connection, self._intake, self._retained, self._send, self._take_back)
        self._peers = self._connections.peers
        self._requests = Requests(options.requests, self._routing, self._counters, self.effects)
        self._memberships = Memberships(
            options.groups,
            self._routing,
            self._deliveries,
            adoption,
            self._connections.answer,
        )
        self._subscribing = Subscribing(options.max_names, self._connections, self._deliveries, self._memberships)
        self._sweeper = Sweeper(self._routing, self._deliveries, self._intake, self._retained)
        self._dead_letters = DeadLetters(
            self._deliveries.fates, self._intake, self._memberships, self._connections.answer
        )
        self._is_draining = False

    # What the loop reports.

    def restored(self, restored: Restored) -> None:
        """Take in what the store has kept from the last run; to be called before anything else."""
        self._intake.restored(restored)
        self._memberships.restored(total for total in restored.totals if total.is_group)
        self._sweeper.note(restored.next_moment)
        self._retained.restored(restored.retained)

    def receive(self, peer_id: bytes, frames: Sequence[Buffer], now: float) -> bool:
        """Take a multipart message from the ROUTER socket.

        Returns:
            Whether it was only passed on: ``next_deadline`` is what it was, and nothing is to be stored.

        Raises:
            Exception: A fault of ours; the peer is dismissed, and others are served as before.
        """
        peer = self._peers.get(peer_id)
        try:
            if peer is None:
                self._on_first(peer_id, frames, now)
            elif len(frames) != 1:
                self.malformed("frames")
            elif wire.is_control(frames[0]):
                self._on_command(peer, wire.decode_client_command(frames[0]), now)
            elif self._on_data(peer, frames[0], now):
                return True
        except ProtocolError as error:
            self._counters.malformed[error.reason] += 1
        except Exception:
            # A fault of ours. Were a later frame of this peer stored, this one would count as stored as well.
            peer = self._peers.get(peer_id)
            if peer is not None:
                self._connections.dismiss(peer, "failed", "the server has failed; its log says why", now)
            raise
        self._after(now)
        return False

    def surfaced(self, token: bytes, now: float) -> None:
        """Take note that somebody subscribed to a token on the XPUB socket."""
        self._connections.surfaced(token, now)

    def sunk(self, token: bytes, now: float) -> None:
        """Take note that nobody is subscribed to a token any more: if it is a link token, that client is gone."""
        self._connections.sunk(token, now)

    def unreachable(self, peer_id: bytes, now: float) -> None:
        """Take note that nothing can be sent to a peer any more."""
        peer = self._peers.get(peer_id)
        if peer is not None:
            self._connections.forget(peer, now)

    def malformed(self, reason: str) -> None:
        """Count what the loop could not even hand in."""
        self._counters.malformed[reason] += 1

    def committed(self, changes: Sequence[Change], now: float) -> None:
        """Take note that the store has made these changes: confirm, deliver, answer."""
        stores = [change for change in changes if isinstance(change, Store)]
        for store in stores:
            self._sweeper.stored(store)
        self._intake.committed(stores, now)
        if len(stores) < len(changes):
            for change in changes:
                self._committed(change)
        self._after(now)

    def commit_failed(self, changes: Sequence[Change], reason: str, text: str) -> None:
        """Take note that the store has made none of these changes: refuse what was asked for."""
        self._intake.commit_failed([change for change in changes if isinstance(change, Store)], reason, text)
        for change in changes:
            match change:
                case Requeue():
                    self._deliveries.not_stored(change.queue, change.number)
                    self._dead_letters.stayed(change)
                case Discard():
                    self._dead_letters.stayed(change)
                case Retain():
                    self._retained.commit_failed(change)
                case Reply():
                    self._connections.answer(change.peer, Failed(change.request, reason, fit_text(text)))
                case AddGroup():
                    self._memberships.not_added(change, reason, fit_text(text))
                case DropGroup():
                    self._memberships.not_dropped(change)
                    self._deliveries.pending.awaited.rerouted()

    def loaded(self, load: Load, rows: Sequence[Stored], now: float) -> None:
        """Take note of what was read from the store: deliver it."""
        self._deliveries.loaded(load, rows, now)
        self._after(now)

    def swept(self, swept: Swept, now: float) -> None:
        """Take note of what has expired and what is due."""
        self._sweeper.swept(swept, now)

    def not_swept(self, now: float) -> None:
        """Take note that what has expired, or is due, cannot be read."""
        self._sweeper.not_swept(now)

    def found(self, find: Find, rows: Sequence[Dead]) -> None:
        """Take note of the dead letters that a peer asks about: answer it."""
        self._dead_letters.found(find, rows)

    def not_found(self, find: Find, reason: str, text: str) -> None:
        """Take note that the dead letters that a peer asks about cannot be read."""
        self._dead_letters.not_found(find, reason, fit_text(text))

    def tick(self, now: float) -> None:
        """Do what is due: redeliveries, and giving up clients whose link token never surfaced."""
        self._connections.tick(now)
        self._requests.tick(now)
        self._deliveries.tick(now)
        self._sweeper.tick(now)
        self._retained.tick(now)
        self._after(now)

    def next_deadline(self) -> float | None:
        """When ``tick`` must be called next, if nothing happens before."""
        moments = (
            self._connections.next_deadline(),
            self._requests.next_deadline(),
            self._deliveries.pending.next_deadline(),
            self._sweeper.next_deadline(),
            self._retained.next_deadline(),
        )
        return min([moment for moment in moments if moment is not None], default=None)

    def drain(self) -> None:
        """Take no more publishes; acks are still welcome. Clients will publish again to the next server.

        Likewise for requests: responses are still passed on.
        """
        self._is_draining = self._requests.is_draining = True

    def farewell(self, now: float) -> None:
        """Tell every client that the server stops."""
        self._deliveries.is_ending = True
        peers = list(self._peers.values())
        # All of them first: what one has in hand must not go to the next.
        queues = self._deliveries.forget_all(peers)
        for peer in peers:
            self._connections.dismiss(peer, "stopping", "the server is stopping", now)
        for queue in queues:
            self._deliveries.evict(queue)
        self._retained.write(now)

    def take_effects(self) -> list[Effect]:
        """Return, and forget, what the loop must do now, in order."""
        effects = self.effects[:]
        self.effects.clear()
        return effects

    def stats(self) -> BrokerStats:
        """Return what was counted so far."""
        in_flight = sum(len(peer.in_flight) + len(peer.lent) for peer in self._peers.values())
        kept = (len(self._retained), self._retained.size)
        present = Present(len(self._peers), len(self._routing), in_flight, len(self._requests), *kept)
        return snapshot(self._counters, self._deliveries.pending, present)

    # What peers send.

    def _on_first(self, peer_id: bytes, frames: Sequence[Buffer], now: float) -> None:
        command: ClientCommand | None = None
        if len(frames) == 1 and wire.is_control(frames[0]):
            with suppress(ProtocolError):
                command = wire.decode_client_command(frames[0])
        if not isinstance(command, Hello):
            text = "the first frame of a connection must be Hello"
            self._connections.send_goodbye(peer_id, "hello", text, retry=True)
            raise ProtocolError("hello", "a frame from a peer that did not say Hello")
        self._connections.hello(peer_id, command, now)

    def _on_command(self, peer: Peer, command: ClientCommand, now: float) -> None:
        match command:
            case Subscribe() | Unsubscribe() | Join() | Leave():
                self._subscribing.receive(peer, command, now)
            case Ack():
                self._deliveries.acked(peer, command.deliveries, now)
            case Nack():
                self._deliveries.nacked(peer, command, now)
            case Ping():
                self._send(peer.id, Pong(command.number))
            case Request():
                self._requests.ask(peer, command, now)
            case Respond():
                self._requests.responded(peer, command)
            case ListDead() | ShowDead() | ResendDead() | DropDead():
                self._dead_letters.ask(peer.id, command)
            case ListRetained() | DropRetained():
                self._retained.ask(peer.id, command)
            case ListGroups() | commands.DropGroup():
                self._memberships.ask(peer, command)
            case _:
                raise ProtocolError("hello", "a second Hello on one connection")

    def _on_data(self, peer: Peer, frame: Buffer, now: float) -> bool:
        try:
            if len(frame) > self._max_message_size:
                self._refuse_size(len(frame))
            if is_addressed(frame):
                return self._broadcasts.bundle(frame, now)
            header = wire.read_header(frame)
        except ProtocolError as error:
            # Its sequence is unknown: were later frames stored, it would count as stored too when it comes again.
            self._connections.dismiss(peer, error.reason, str(error), now)
            raise
        if header.ack:
            self._on_stored_publish(peer, header, bytes(frame), now)
            return False
        return self._broadcasts.frame(header, frame, now)

    def _refuse_size(self, size: int) -> NoReturn:
        raise ProtocolError("size", f"a frame of {size} bytes, where at most {self._max_message_size} are taken")

    def _on_stored_publish(self, peer: Peer, header: wire.Header, frame: bytes, now: float) -> None:
        if self._is_draining:
            return
        try:
            self._intake.publish(peer.client, peer.id, header, frame, now)
        except TooManyRefusedError:
            # When it comes back it says from which sequence on it still sends; older ones are forgotten then.
            self._connections.dismiss(peer, "refused", f"more than {MAX_REFUSED} publishes were refused", now)

    # Small parts.

    def _send(self, peer_id: bytes, command: Command) -> None:
        self.effects.append(Send(peer_id, (wire.encode_command(command),)))

    def _next_number(self) -> int:
        return self._intake.next_number()

    def _take_back(self, peer: Peer, now: float) -> None:
        """Take back what a peer had that is gone."""
        self._requests.lost(peer)
        self._deliveries.lost(peer, now)

    def _committed(self, change: Change) -> None:
        """Take note that the store has made a change."""
        match change:
            case Requeue():
                self._deliveries.requeued(change)
                if change.origin is Origin.DEAD:
                    self._dead_letters.left(change)
                else:
                    self._sweeper.moved(change)
            case Discard():
                self._dead_letters.left(change)
            case AddGroup():
                self._deliveries.pending.awaited.rerouted()
                self._memberships.added(change)
            case Adopt():
                self._deliveries.pending.adopted(change)
            case DropGroup():
                self._memberships.dropped(change)
            case Retain():
                self._retained.committed(change)
            case Reply():
                self._connections.answer(change.peer, Completed(change.request, change.count))

    def _after(self, now: float) -> None:
        """Do what may have become possible, whatever happened."""
        self._intake.retry(now)
