"""What the integration tests share."""

from collections.abc import Callable, Iterator

import pytest

from mezzenger import ClientSettings, Mezzenger, MezzengerServer, ResendSettings, ServerSettings


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server on free ports, in a thread."""
    settings = ServerSettings(pub_port=0, recv_port=0, resend=ResendSettings(initial=0.2), drain_timeout=1.0)
    with MezzengerServer(settings) as server:
        yield server


Connect = Callable[..., Mezzenger]


@pytest.fixture
def connect(server: MezzengerServer) -> Iterator[Connect]:
    """Makes clients of the server; they are stopped at the end."""
    clients: list[Mezzenger] = []

    def make(**settings: object) -> Mezzenger:
        ports = {"send_port": server.recv_port, "sub_port": server.pub_port}
        clients.append(Mezzenger(settings=ClientSettings.model_validate(ports | settings)))
        return clients[-1]

    yield make
    for client in clients:
        client.stop()
