"""mosquitto with paho-mqtt, at quality of service 0."""

import pickle
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.load import PATIENCE, Load, Plan, Tally
from benchmarks.peers.base import HOST, Daemon, call_for, free_port, needs, program

_MODULES: Final = ("paho",)
_PROGRAM: Final = "mosquitto"
_NAMES_AT_ONCE: Final = 500

OnPayload = Callable[[Any], None]


class MqttPublisher:
    """One client; paho sends from the calling thread."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._client = _connect(ports)

    def send(self, load: Load) -> None:
        """Publish, and wait until the last one has left."""
        publish = self._client.publish
        last: Any = None
        for chunk in load.chunks():
            load.wait()
            for payload, name in zip(chunk, load.names, strict=False):
                last = publish(name, pickle.dumps(payload, 5))
        if last is not None:
            last.wait_for_publish(PATIENCE)


class MqttSubscriber:
    """Clients with a thread each, which calls back."""

    def __init__(self, ports: tuple[int, ...], plan: Plan, connections: int) -> None:
        self._tallies: Sequence[Tally] = []
        self._adds: list[OnPayload] = [lambda _payload: None] * connections
        self._clients = [_connect(ports, plan.all_names(), self._callback(index)) for index in range(connections)]

    def _callback(self, index: int) -> OnPayload:
        adds = self._adds

        def on_payload(payload: object) -> None:
            adds[index](payload)

        return on_payload

    def expect(self, tallies: Sequence[Tally]) -> None:
        """Have the callbacks count there."""
        self._tallies = tallies
        self._adds[:] = [tally.add for tally in tallies]

    def receive(self) -> None:
        """Wait for the callbacks."""
        for tally in self._tallies:
            tally.wait()


class MqttCaller:
    """One client that sends pings and gets pongs."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._client = _connect(ports, ["pong"], self._arrived.put)

    def call(self, seconds: float) -> list[float]:
        """Send one when the last one has come back."""

        def once() -> None:
            self._client.publish("ping", pickle.dumps(1, 5))
            self._arrived.get(timeout=PATIENCE)

        return call_for(seconds, once)


class MqttEcho:
    """One client that answers from its callback."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._client: Any = _connect(ports, ["ping"], self._answer)

    def _answer(self, payload: object) -> None:
        self._client.publish("pong", pickle.dumps(payload, 5))

    def serve(self) -> None:
        """The thread of paho does it."""
        threading.Event().wait()


class Mqtt:
    """MQTT."""

    name = "mqtt"
    title = "mosquitto, paho"

    def install_command(self) -> str | None:
        """The extra has the client, the system the server."""
        return needs(_MODULES, [_PROGRAM], "mosquitto")

    def daemon(self, folder: Path, *, durable: bool) -> Daemon:
        """``mosquitto``; QoS 0 is not durable."""
        del durable
        port = free_port()
        # No limit of messages that wait, and answers that leave at once, as its manual advises.
        lines = [f"listener {port} {HOST}", "allow_anonymous true", "max_queued_messages 0", "set_tcp_nodelay true"]
        file = folder / "mosquitto.conf"
        file.write_text("\n".join(lines) + "\n", "utf-8")
        return Daemon([program(_PROGRAM) or _PROGRAM, "-c", str(file)], (port,))

    def publisher(self, ports: tuple[int, ...], plan: Plan) -> MqttPublisher:
        """Connect."""
        del plan
        return MqttPublisher(ports)

    def subscriber(self, ports: tuple[int, ...], plan: Plan, connections: int) -> MqttSubscriber:
        """Connect and subscribe."""
        return MqttSubscriber(ports, plan, connections)

    def caller(self, ports: tuple[int, ...]) -> MqttCaller:
        """Connect and subscribe."""
        return MqttCaller(ports)

    def echo(self, ports: tuple[int, ...]) -> MqttEcho:
        """Connect and subscribe."""
        return MqttEcho(ports)


def _connect(ports: tuple[int, ...], names: Sequence[str] = (), on_payload: OnPayload | None = None) -> Any:  # noqa: ANN401
    """Return a client whose subscriptions the server has confirmed."""
    import paho.mqtt.client as mqtt  # noqa: PLC0415  # need not be installed

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    ready = threading.Semaphore(0)
    client.on_connect = lambda *_: ready.release()
    client.on_subscribe = lambda *_: ready.release()
    if on_payload is not None:
        client.on_message = lambda _client, _data, message: on_payload(pickle.loads(message.payload))
    client.connect(HOST, ports[0])
    client.loop_start()
    requests = [names[begin : begin + _NAMES_AT_ONCE] for begin in range(0, len(names), _NAMES_AT_ONCE)]
    if not ready.acquire(timeout=PATIENCE):
        raise TimeoutError("mosquitto does not answer")
    for request in requests:
        client.subscribe([(name, 0) for name in request])
    for _ in requests:
        if not ready.acquire(timeout=PATIENCE):
            raise TimeoutError("mosquitto does not confirm a subscription")
    return client
