"""The programs that we show to others run as they are."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from mezzenger import ChannelSettings, MezzengerServer, ServerSettings
from tests.integration.processes import wait_for

ROOT: Final = Path(__file__).parent.parent
ADDRESS: Final = 'server_address="127.0.0.1"'
TIMEOUT: Final = 60.0


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server on free ports."""
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0, drain_timeout=0.5)) as server:
        yield server


def start_example(name: str, server: MezzengerServer, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run a copy of an example that differs in the ports only."""
    source = (ROOT / "examples" / name).read_text("utf-8")
    assert source.count(ADDRESS) == 1
    ports = f"send_port={server.recv_port}, sub_port={server.pub_port}"
    copy = folder / name
    copy.write_text(source.replace(ADDRESS, f"{ADDRESS}, {ports}"), "utf-8")
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, copy, *arguments], stdout=subprocess.PIPE, env=environment, text=True)


def finished(name: str, server: MezzengerServer, folder: Path, *arguments: str) -> str:
    """Run an example that ends by itself, with status 0; return what it printed."""
    with start_example(name, server, folder, *arguments) as process:
        try:
            printed, _ = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert process.returncode == 0
    return printed


def test_the_quick_start_greets(server: MezzengerServer, tmp_path: Path) -> None:
    """The subscriber prints greetings as long as the publisher sends them, and Ctrl-C ends both."""
    with (
        start_example("subscriber.py", server, tmp_path) as subscriber,
        start_example("publisher.py", server, tmp_path) as publisher,
    ):
        try:
            assert subscriber.stdout is not None
            for _ in range(2):
                assert subscriber.stdout.readline() in {"Hello John!\n", "Hello David!\n", "Hello Lucy!\n"}
            for process in (subscriber, publisher):
                assert process.poll() is None
                process.send_signal(signal.SIGINT)
                process.wait(TIMEOUT)
        finally:
            subscriber.kill()
            publisher.kill()


def test_request_reply(server: MezzengerServer, tmp_path: Path) -> None:
    """One program serves until Ctrl-C; the other one prints what it is answered, be it a result or an error."""
    with start_example("request_reply.py", server, tmp_path, "serve") as serving:
        try:
            assert serving.stdout is not None
            assert serving.stdout.readline() == "serving\n"
            for arguments, answer in ((("3", "4"), "0.75"), (("3", "0"), "ZeroDivisionError float division by zero")):
                assert finished("request_reply.py", server, tmp_path, "ask", *arguments) == f"{answer}\n"
            serving.send_signal(signal.SIGINT)
            assert serving.wait(TIMEOUT) == 0
        finally:
            serving.kill()


def test_typed_channels(server: MezzengerServer, tmp_path: Path) -> None:
    """What fits is handled, what does not is told; nothing stops."""
    assert finished("typed_channels.py", server, tmp_path).splitlines() == [
        "not sent:",
        "  number",
        "    Input should be greater than 0 [type=greater_than, input_value=0, input_type=int]",
        "order 1: {'tea': 2} for 7.90 euro",
        "order 2: {'milk': 1} for 1.20 euro",
        "could not be handled: 1",
    ]


@pytest.mark.timeout(30)
def test_a_dashboard_shows_what_was_sent_before(tmp_path: Path) -> None:
    """The publisher has ended when the dashboard starts, and all values are there; Ctrl-C ends it."""
    settings = ServerSettings(pub_port=0, recv_port=0, drain_timeout=0.5)
    with MezzengerServer(settings, {"gauge.*": ChannelSettings(retain="last")}) as server:
        assert finished("gauges.py", server, tmp_path) == ""
        with start_example("dashboard.py", server, tmp_path) as dashboard:
            try:
                assert dashboard.stdout is not None
                # Two threads print: a line may stand between another one and its end.
                shown = "".join(dashboard.stdout.readline() for _ in range(4))
                for text in ("boiler 71.5", "outside -3.0", "pressure 1.4"):
                    assert f"gauge.{text} (as it was)" in shown
                assert "Ctrl-C ends this." in shown
                dashboard.send_signal(signal.SIGINT)
                dashboard.wait(TIMEOUT)
            finally:
                dashboard.kill()


def test_tracing(server: MezzengerServer, tmp_path: Path) -> None:
    """One trace leads from the sender's span to what the callback does."""
    assert finished("tracing.py", server, tmp_path).splitlines() == [
        "3 loaves",
        "'open the shop' is a part of 'nothing'",
        "'send orders' is a part of 'open the shop'",
        "'process orders' is a part of 'send orders'",
        "'bake' is a part of 'process orders'",
        "traces: 1",
    ]


@pytest.mark.timeout(30)
def test_workers(server: MezzengerServer, tmp_path: Path) -> None:
    """Each customer's jobs are done in order, and the group stays when its worker has gone."""
    assert finished("workers.py", server, tmp_path).splitlines() == [
        "ann bake pack ship",
        "bob bake pack ship",
        "workers of jobs: 0 members, 1 waiting",
        "dropped: 1",
    ]


@pytest.mark.timeout(30)
def test_wildcards(server: MezzengerServer, tmp_path: Path) -> None:
    """One callback gets the messages of all names that its patterns match."""
    assert finished("wildcards.py", server, tmp_path).splitlines() == [
        "sensors.boiler.temperature: 71.5",
        "alarms.cellar.door.open: since 9:12",
    ]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["web_fastapi.py", "web_flask.py"])
def test_a_web_service(name: str, server: MezzengerServer, tmp_path: Path) -> None:
    """A request publishes, the subscriber in the background handles; Ctrl-C ends it, and all is acknowledged."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start_example(name, server, tmp_path, str(port)) as service:
        try:
            wait_for(lambda: fetched(port, "GET", "/orders") == {})
            for _ in range(3):
                assert fetched(port, "POST", "/orders/tea") == {"ordered": "tea"}
            assert fetched(port, "POST", "/orders/milk") == {"ordered": "milk"}
            wait_for(lambda: fetched(port, "GET", "/orders") == {"tea": 3, "milk": 1})
            service.send_signal(signal.SIGINT)
            service.wait(TIMEOUT)
        finally:
            service.kill()
    assert server.stats().pending == 0


def fetched(port: int, method: str, path: str) -> object:
    """Return what a web service answers, read as JSON; None if it does not listen yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, path)
        return json.loads(connection.getresponse().read())
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()
