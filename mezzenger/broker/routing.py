"""Names, and the peers that subscribed to them."""

from collections.abc import Sequence

from mezzenger.broker.peers import Peer


class Routing:
    """Who gets what."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[bytes, Peer]] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def add(self, name: str, peer: Peer) -> None:
        """Subscribe a peer to a name."""
        peer.names.add(name)
        self._by_name.setdefault(name, {})[peer.id] = peer

    def remove(self, name: str, peer: Peer) -> None:
        """Unsubscribe a peer from a name that it is subscribed to."""
        peer.names.remove(name)
        peers = self._by_name[name]
        del peers[peer.id]
        if not peers:
            del self._by_name[name]

    def forget(self, peer: Peer) -> list[str]:
        """Unsubscribe a peer from all its names; return them."""
        names = sorted(peer.names)
        for name in names:
            self.remove(name, peer)
        return names

    def subscribers(self, name: str) -> Sequence[Peer]:
        """Return the peers that subscribed to a name, in the order in which they did."""
        return tuple(self._by_name.get(name, {}).values())
