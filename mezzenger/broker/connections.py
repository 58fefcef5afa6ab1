"""Who is connected: hellos, link tokens, sync tokens, farewells."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mezzenger.broker.intake import Intake
from mezzenger.broker.peers import Peer
from mezzenger.broker.retained import LastValues
from mezzenger.broker.tokens import Tokens
from mezzenger.errors import ProtocolError
from mezzenger.protocol.commands import (
    PROTOCOL_VERSION,
    Command,
    Goodbye,
    Hello,
    Linked,
    Subscribe,
    Subscribed,
    Welcome,
    is_token,
)


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What is to be known of the settings."""

    max_message_size: int
    link_timeout: float
    """Seconds in which a new client's link token must surface."""
    max_peers: int


class Connections:
    """The connected clients, from their Hello until they are gone.

    Args:
        options: Limits.
        intake: Knows the clients of old.
        retained: Has something for those whose subscriptions become active.
        send: Sends a command to whoever has a routing id.
        take_back: Called with a peer that is gone, and the time.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        intake: Intake,
        retained: LastValues,
        send: Callable[[bytes, Command], None],
        take_back: Callable[[Peer, float], None],
    ) -> None:
        self._options = options
        self._intake = intake
        self._retained = retained
        self._send = send
        self._take_back = take_back
        self.peers: dict[bytes, Peer] = {}
        """By routing id."""
        self._linked_by: dict[bytes, Peer] = {}
        self._unlinked: deque[tuple[float, Peer]] = deque()
        self._tokens = Tokens()

    def answer(self, peer_id: bytes, command: Command) -> None:
        """Answer a question, unless who asked is gone."""
        if peer_id in self.peers:
            self._send(peer_id, command)

    def send_goodbye(self, peer_id: bytes, reason: str, text: str, *, retry: bool) -> None:
        """Tell a connection that it is not served."""
        self._send(peer_id, Goodbye(reason, text, retry))

    def hello(self, peer_id: bytes, hello: Hello, now: float) -> None:
        """Let a client in.

        Raises:
            ProtocolError: It is not the one that has its id, or names a token that is in use; it was told.
        """
        if hello.version != PROTOCOL_VERSION:
            text = f"the client speaks protocol version {hello.version}, the server version {PROTOCOL_VERSION}"
            self.send_goodbye(peer_id, "version", text, retry=False)
            return
        publisher = self._intake.greet(hello)
        is_taken = hello.token in self._linked_by or hello.token in self._tokens
        if publisher is None or is_taken or not is_token(hello.token):
            self.send_goodbye(peer_id, "key", "another client has this client id or token, or it is none", retry=False)
            raise ProtocolError("key", "a Hello with a wrong key or a token that is in use")
        former = self.peers.get(publisher.peer) if publisher.peer is not None else None
        if former is not None:
            self.forget(former, now)
        if len(self.peers) >= self._options.max_peers:
            text = f"{len(self.peers)} clients are connected (the server's limit is its setting server.max_peers)"
            self.send_goodbye(peer_id, "peers", text, retry=True)
            return
        publisher.peer = peer_id
        peer = self.peers[peer_id] = Peer(peer_id, hello.client, hello.token)
        self._send(peer_id, Welcome(PROTOCOL_VERSION, self._options.max_message_size, self._retained.is_on))
        self._unlinked.append((now + self._options.link_timeout, peer))
        self._tokens.expect(hello.token, lambda _now: self._on_linked(peer), now)

    def require_unclaimed(self, sync_token: bytes) -> None:
        """Raise ProtocolError if somebody waits for this token already, or it is none: names begin otherwise."""
        if sync_token in self._tokens or not is_token(sync_token):
            raise ProtocolError("token", "a Subscribe with a token that somebody waits for, or that is none")

    def await_sync(self, peer: Peer, command: Subscribe, now: float) -> None:
        """Answer a Subscribe as soon as its sync token has surfaced."""
        peer.sync_tokens.add(command.token)
        self._tokens.expect(command.token, lambda now: self._on_subscribed(peer, command, now), now)

    def surfaced(self, token: bytes, now: float) -> None:
        """Take note that somebody subscribed to a token on the XPUB socket."""
        self._tokens.surfaced(token, now)

    def sunk(self, token: bytes, now: float) -> None:
        """Take note that nobody is subscribed to a token any more: if it is a link token, that client is gone."""
        self._tokens.forget(token)
        peer = self._linked_by.get(token)
        if peer is not None:
            self.forget(peer, now)

    def tick(self, now: float) -> None:
        """Give up clients whose link token never surfaced."""
        while self._unlinked and self._unlinked[0][0] <= now:
            _, peer = self._unlinked.popleft()
            # The connection may be another peer's by now, if it was dismissed and said Hello again.
            if self.peers.get(peer.id) is peer and peer.token not in self._linked_by:
                timeout = self._options.link_timeout
                text = f"the SUB socket's link token did not come through pub_port within {timeout:g} s"
                self.dismiss(peer, "link", text, now)

    def next_deadline(self) -> float | None:
        """When ``tick`` must be called next, if nothing happens before."""
        return self._unlinked[0][0] if self._unlinked else None

    def dismiss(self, peer: Peer, reason: str, text: str, now: float, *, retry: bool = True) -> None:
        """Serve a peer no more, and tell it why."""
        self.send_goodbye(peer.id, reason, text, retry=retry)
        self.forget(peer, now)

    def forget(self, peer: Peer, now: float) -> None:
        """Take note that a peer is gone."""
        del self.peers[peer.id]
        self._linked_by.pop(peer.token, None)
        for token in (peer.token, *peer.sync_tokens):
            self._tokens.forget(token)
        self._intake.left(peer.client)
        self._take_back(peer, now)

    def _on_linked(self, peer: Peer) -> None:
        self._linked_by[peer.token] = peer
        self._send(peer.id, Linked())

    def _on_subscribed(self, peer: Peer, command: Subscribe, now: float) -> None:
        peer.sync_tokens.discard(command.token)
        self._retained.subscribed(peer, command, now)
        self._send(peer.id, Subscribed(command.request))
