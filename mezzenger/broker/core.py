"""The broker's rules, one short method for each command.

Nothing here waits, and nothing raises for what a peer sent: malformed input is counted, answered where there is
somebody to answer, and forgotten.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mezzenger.broker.dead_letters import DeadLetters
from mezzenger.broker.deliveries import Deliveries, DeliveryOptions
from mezzenger.broker.effects import Change, Discard, Effect, Find, Load, Origin, Publish, Reply, Requeue, Send, Store
from mezzenger.broker.intake import Intake, TooManyRefusedError
from mezzenger.broker.peers import Peer
from mezzenger.broker.publishers import MAX_REFUSED
from mezzenger.broker.restored import Dead, Restored, Stored, Swept
from mezzenger.broker.room import RoomOptions
from mezzenger.broker.routing import Routing
from mezzenger.broker.stats import BrokerStats, Counters
from mezzenger.broker.sweeper import Sweeper
from mezzenger.broker.tokens import Tokens
from mezzenger.errors import InvalidName, ProtocolError
from mezzenger.message import check_name
from mezzenger.protocol import wire
from mezzenger.protocol.commands import (
    PROTOCOL_VERSION,
    Ack,
    ClientCommand,
    Command,
    Completed,
    DropDead,
    Failed,
    Goodbye,
    Hello,
    Linked,
    ListDead,
    Nack,
    Ping,
    Pong,
    ResendDead,
    ShowDead,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    fit_text,
)


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """What the broker needs to know of the settings."""

    max_message_size: int
    link_timeout: float
    """Seconds in which a new client's link token must surface."""
    delivery: DeliveryOptions
    room: RoomOptions
    max_names: int
    """How many names one peer may subscribe to."""
    max_peers: int


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
        self._effects: list[Effect] = []
        self._counters = Counters()
        self._peers: dict[bytes, Peer] = {}
        self._linked_by: dict[bytes, Peer] = {}
        self._unlinked: deque[tuple[float, Peer]] = deque()
        self._routing = Routing()
        self._tokens = Tokens()
        self._deliveries = Deliveries(options.delivery, random, self._routing, self._counters, self._effects)
        self._intake = Intake(options.room, self._deliveries, self._counters, self._effects, self._send)
        self._sweeper = Sweeper(self._deliveries, self._intake, self._effects)
        self._dead_letters = DeadLetters(
            self._deliveries.pending, self._intake, self._counters, self._effects, self._send
        )
        self._is_draining = False

    # What the loop reports.

    def restored(self, restored: Restored) -> None:
        """Take in what the store has kept from the last run; to be called before anything else."""
        self._intake.restored(restored)
        self._sweeper.note(restored.next_moment)

    def receive(self, peer_id: bytes, frames: Sequence[bytes], now: float) -> None:
        """Take a multipart message from the ROUTER socket."""
        try:
            self._receive(peer_id, frames, now)
        except ProtocolError as error:
            self._counters.malformed[error.reason] += 1
        self._intake.retry(now)

    def surfaced(self, token: bytes) -> None:
        """Take note that somebody subscribed to a token on the XPUB socket."""
        self._tokens.surfaced(token)

    def sunk(self, token: bytes, now: float) -> None:
        """Take note that nobody is subscribed to a token any more: if it is a link token, that client is gone."""
        self._tokens.forget(token)
        peer = self._linked_by.get(token)
        if peer is not None:
            self._forget(peer, now)

    def unreachable(self, peer_id: bytes, now: float) -> None:
        """Take note that nothing can be sent to a peer any more."""
        peer = self._peers.get(peer_id)
        if peer is not None:
            self._forget(peer, now)

    def malformed(self, reason: str) -> None:
        """Count what the loop could not even hand in."""
        self._counters.malformed[reason] += 1

    def committed(self, changes: Sequence[Change], now: float) -> None:
        """Take note that the store has made these changes: confirm, deliver, answer."""
        stores = [change for change in changes if isinstance(change, Store)]
        for store in stores:
            self._sweeper.stored(store)
        self._intake.committed(stores, now)
        for change in changes:
            match change:
                case Requeue():
                    self._deliveries.requeued(change)
                    if change.origin is Origin.DEAD:
                        self._dead_letters.left(change)
                case Discard():
                    self._dead_letters.left(change)
                case Reply():
                    self._send(change.peer, Completed(change.request, change.count))
        self._intake.retry(now)

    def commit_failed(self, changes: Sequence[Change], reason: str, text: str) -> None:
        """Take note that the store has made none of these changes: refuse what was asked for."""
        self._intake.commit_failed([change for change in changes if isinstance(change, Store)], reason, text)
        for change in changes:
            match change:
                case Requeue():
                    self._deliveries.not_stored(change.name, change.number)
                    self._dead_letters.stayed(change)
                case Discard():
                    self._dead_letters.stayed(change)
                case Reply():
                    self._send(change.peer, Failed(change.request, reason, fit_text(text)))

    def loaded(self, load: Load, rows: Sequence[Stored], now: float) -> None:
        """Take note of what was read from the store: deliver it."""
        self._deliveries.loaded(load, rows, now)
        self._intake.retry(now)

    def swept(self, swept: Swept) -> None:
        """Take note of what has expired and what is due."""
        self._sweeper.swept(swept)

    def found(self, find: Find, rows: Sequence[Dead]) -> None:
        """Take note of the dead letters that a peer asks about: answer it."""
        self._dead_letters.found(find, rows)

    def not_found(self, find: Find, reason: str, text: str) -> None:
        """Take note that the dead letters that a peer asks about cannot be read."""
        self._dead_letters.not_found(find, reason, fit_text(text))

    def tick(self, now: float) -> None:
        """Do what is due: redeliveries, and giving up clients whose link token never surfaced."""
        while self._unlinked and self._unlinked[0][0] <= now:
            _, peer = self._unlinked.popleft()
            # The connection may be another peer's by now, if it was dismissed and said Hello again.
            if self._peers.get(peer.id) is peer and peer.token not in self._linked_by:
                timeout = self._options.link_timeout
                text = f"the SUB socket's link token did not come through pub_port within {timeout:g} s"
                self._dismiss(peer, "link", text, now)
        self._deliveries.tick(now)
        self._sweeper.tick(now)
        self._intake.retry(now)

    def next_deadline(self) -> float | None:
        """When ``tick`` must be called next, if nothing happens before."""
        moments = [self._deliveries.pending.next_deadline(), self._sweeper.next_deadline()]
        if self._unlinked:
            moments.append(self._unlinked[0][0])
        return min((moment for moment in moments if moment is not None), default=None)

    def drain(self) -> None:
        """Take no more publishes; acks are still welcome. Clients will publish again to the next server."""
        self._is_draining = True

    def farewell(self, now: float) -> None:
        """Tell every client that the server stops."""
        peers = list(self._peers.values())
        # All of them first: what one has in hand must not go to the next.
        names = [name for peer in peers for name in self._routing.forget(peer)]
        for name in names:
            self._deliveries.evict(name, is_farewell=True)
        for peer in peers:
            self._dismiss(peer, "stopping", "the server is stopping", now)

    def take_effects(self) -> list[Effect]:
        """Return what the loop must do now, in order."""
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def stats(self) -> BrokerStats:
        """Return what was counted so far."""
        counters = self._counters
        return BrokerStats(
            peers=len(self._peers),
            names=len(self._routing),
            pending=self._deliveries.pending.frames,
            pending_size=self._deliveries.pending.size,
            delayed=self._deliveries.pending.delayed.frames,
            delayed_size=self._deliveries.pending.delayed.size,
            dead=self._deliveries.pending.dead.frames,
            dead_size=self._deliveries.pending.dead.size,
            in_flight=sum(len(peer.in_flight) for peer in self._peers.values()),
            published=counters.published,
            stored=counters.stored,
            repeated=counters.repeated,
            delivered=counters.delivered,
            redelivered=counters.redelivered,
            acked=counters.acked,
            nacked=counters.nacked,
            buried=counters.buried,
            resent=counters.resent,
            discarded=counters.discarded,
            dropped=dict(counters.dropped),
            malformed=dict(counters.malformed),
        )

    # What peers send.

    def _receive(self, peer_id: bytes, frames: Sequence[bytes], now: float) -> None:
        peer = self._peers.get(peer_id)
        if peer is None:
            self._on_first(peer_id, frames, now)
            return
        if len(frames) != 1:
            raise ProtocolError("frames", f"a multipart message of {len(frames)} frames")
        (frame,) = frames
        if wire.is_control(frame):
            self._on_command(peer, wire.decode_client_command(frame), now)
        else:
            self._on_data(peer, frame, now)

    def _on_first(self, peer_id: bytes, frames: Sequence[bytes], now: float) -> None:
        command: ClientCommand | None = None
        if len(frames) == 1 and wire.is_control(frames[0]):
            with suppress(ProtocolError):
                command = wire.decode_client_command(frames[0])
        if not isinstance(command, Hello):
            self._send_goodbye(peer_id, "hello", "the first frame of a connection must be Hello", retry=True)
            raise ProtocolError("hello", "a frame from a peer that did not say Hello")
        self._on_hello(peer_id, command, now)

    def _on_command(self, peer: Peer, command: ClientCommand, now: float) -> None:
        match command:
            case Subscribe():
                self._on_subscribe(peer, command, now)
            case Unsubscribe():
                self._on_unsubscribe(peer, command, now)
            case Ack():
                self._deliveries.acked(peer, command.deliveries, now)
            case Nack():
                self._deliveries.nacked(peer, command, now)
            case Ping():
                self._send(peer.id, Pong(command.number))
            case ListDead() | ShowDead() | ResendDead() | DropDead():
                self._dead_letters.ask(peer.id, command)
            case _:
                raise ProtocolError("hello", "a second Hello on one connection")

    def _on_hello(self, peer_id: bytes, hello: Hello, now: float) -> None:
        if hello.version != PROTOCOL_VERSION:
            text = f"the client speaks protocol version {hello.version}, the server version {PROTOCOL_VERSION}"
            self._send_goodbye(peer_id, "version", text, retry=False)
            return
        publisher = self._intake.greet(hello)
        if publisher is None or hello.token in self._linked_by or hello.token in self._tokens:
            self._send_goodbye(peer_id, "key", "another client has this client id or token", retry=False)
            raise ProtocolError("key", "a Hello with a wrong key or a token that is in use")
        former = self._peers.get(publisher.peer) if publisher.peer is not None else None
        if former is not None:
            self._forget(former, now)
        if len(self._peers) >= self._options.max_peers:
            text = f"{len(self._peers)} clients are connected (the server's limit is its setting server.max_peers)"
            self._send_goodbye(peer_id, "peers", text, retry=True)
            return
        publisher.peer = peer_id
        peer = self._peers[peer_id] = Peer(peer_id, hello.client, hello.token)
        self._send(peer_id, Welcome(PROTOCOL_VERSION, self._options.max_message_size))
        self._unlinked.append((now + self._options.link_timeout, peer))
        self._tokens.expect(hello.token, lambda: self._on_linked(peer))

    def _on_linked(self, peer: Peer) -> None:
        self._linked_by[peer.token] = peer
        self._send(peer.id, Linked())

    def _on_subscribe(self, peer: Peer, command: Subscribe, now: float) -> None:
        for name in command.names:
            try:
                check_name(name)
            except InvalidName as error:
                raise ProtocolError("name", str(error)) from None
        limit = self._options.max_names
        if len(peer.names) + len(command.names) > limit or len(peer.sync_tokens) >= limit:
            text = f"a client may subscribe to {limit} names at most (the server's setting server.max_names)"
            self._dismiss(peer, "names", text, now, retry=False)
            raise ProtocolError("names", f"a peer that subscribes to more than {limit} names")
        if command.token in self._tokens:
            raise ProtocolError("token", "a Subscribe with a token that somebody waits for")
        for name in command.names:
            if name not in peer.names:
                self._routing.add(name, peer)
                self._deliveries.subscribed(peer, name, now)
        peer.sync_tokens.add(command.token)
        self._tokens.expect(command.token, lambda: self._on_subscribed(peer, command))

    def _on_subscribed(self, peer: Peer, command: Subscribe) -> None:
        peer.sync_tokens.discard(command.token)
        self._send(peer.id, Subscribed(command.request))

    def _on_unsubscribe(self, peer: Peer, command: Unsubscribe, now: float) -> None:
        if command.name in peer.names:
            self._routing.remove(command.name, peer)
            self._deliveries.unsubscribed(peer, command.name, now)

    def _on_data(self, peer: Peer, frame: bytes, now: float) -> None:
        try:
            header = self._read_header(frame)
        except ProtocolError as error:
            # Its sequence is unknown: were later frames stored, it would count as stored too when it comes again.
            self._dismiss(peer, error.reason, str(error), now)
            raise
        if header.ack:
            self._on_stored_publish(peer, header, frame, now)
        elif header.name in self._routing:
            self._counters.published += header.messages
            self._effects.append(Publish(frame))
        else:
            self._counters.dropped["no_subscriber"] += header.messages

    def _read_header(self, frame: bytes) -> wire.Header:
        if len(frame) > self._options.max_message_size:
            limit = self._options.max_message_size
            raise ProtocolError("size", f"a frame of {len(frame)} bytes, where at most {limit} are taken")
        return wire.read_header(frame)

    def _on_stored_publish(self, peer: Peer, header: wire.Header, frame: bytes, now: float) -> None:
        if self._is_draining:
            return
        try:
            self._intake.publish(peer.client, peer.id, header, frame, now)
        except TooManyRefusedError:
            # When it comes back it says from which sequence on it still sends; older ones are forgotten then.
            self._dismiss(peer, "refused", f"more than {MAX_REFUSED} publishes were refused", now)

    # Small parts.

    def _send(self, peer_id: bytes, command: Command) -> None:
        self._effects.append(Send(peer_id, (wire.encode_command(command),)))

    def _send_goodbye(self, peer_id: bytes, reason: str, text: str, *, retry: bool) -> None:
        self._send(peer_id, Goodbye(reason, text, retry))

    def _dismiss(self, peer: Peer, reason: str, text: str, now: float, *, retry: bool = True) -> None:
        self._send_goodbye(peer.id, reason, text, retry=retry)
        self._forget(peer, now)

    def _forget(self, peer: Peer, now: float) -> None:
        del self._peers[peer.id]
        self._linked_by.pop(peer.token, None)
        for token in (peer.token, *peer.sync_tokens):
            self._tokens.forget(token)
        self._intake.left(peer.client)
        self._deliveries.lost(peer, self._routing.forget(peer), now)
