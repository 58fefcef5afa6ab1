"""All peers by name, in the order of the tables."""

from typing import Final

from benchmarks.peers.base import Peer
from benchmarks.peers.jetstream import JetStream
from benchmarks.peers.mqtt import Mqtt
from benchmarks.peers.nats_core import Nats
from benchmarks.peers.ours import Ours
from benchmarks.peers.ours_asyncio import OursAsyncio
from benchmarks.peers.raw import Raw
from benchmarks.peers.redis_pubsub import Redis
from benchmarks.peers.redis_streams import RedisStreams

_ALL: Final[tuple[Peer, ...]] = (
    Ours("mezzenger", "Mezzenger", at_once=False),
    Ours("mezzenger-batch", "Mezzenger, send_messages", at_once=True),
    OursAsyncio(),
    Raw("raw", "raw pyzmq", ready_made=False),
    Raw("raw-frames", "raw, ready-made frames", ready_made=True),
    Nats(),
    Redis(),
    Mqtt(),
    JetStream(),
    RedisStreams(),
)

PEERS: Final[dict[str, Peer]] = {peer.name: peer for peer in _ALL}
