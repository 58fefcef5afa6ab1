"""What the integration tests share."""

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from mezzenger import ClientSettings, Mezzenger, MezzengerServer, ResendSettings, ServerSettings
from tests.integration import processes
from tests.integration.driven import LoopThread, drive

THREADS: Final = "threads"
ASYNCIO: Final = "asyncio"

both_clients: Final = pytest.mark.usefixtures("new_client")
"""For modules whose tests are run with ``Mezzenger``, and again with ``AsyncMezzenger``."""

only_threads: Final = pytest.mark.parametrize("new_client", [THREADS], indirect=True)
"""For tests of what is no matter of an asyncio client."""


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server in a thread, on ports that another one can have after it."""
    ports = processes.free_ports()
    settings = ServerSettings(
        pub_port=ports.sub_port,
        recv_port=ports.send_port,
        resend=ResendSettings(initial=0.2),
        drain_timeout=1.0,
    )
    with MezzengerServer(settings) as server:
        yield server


NewClient = Callable[[ClientSettings], Mezzenger]


@pytest.fixture(params=[THREADS, ASYNCIO])
def new_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewClient]:
    """Makes clients: ``Mezzenger``, and in a second run of the test ``AsyncMezzenger``; so does ``patient``."""
    if request.param == THREADS:
        yield processes.new_client
        return
    loop = LoopThread()
    monkeypatch.setattr(processes, "new_client", lambda settings: drive(settings, loop))
    yield processes.new_client
    loop.close()


Connect = Callable[..., Mezzenger]


@pytest.fixture
def connect(server: MezzengerServer, new_client: NewClient) -> Iterator[Connect]:
    """Makes clients of the server; they are stopped at the end."""
    clients: list[Mezzenger] = []

    def make(**settings: object) -> Mezzenger:
        ports = {"send_port": server.recv_port, "sub_port": server.pub_port}
        clients.append(new_client(ClientSettings.model_validate(ports | settings)))
        return clients[-1]

    yield make
    for client in clients:
        client.stop()
