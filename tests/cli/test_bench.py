"""``mezzenger bench`` as processes, against a real server."""

import json
import os
import signal
import time
from typing import Any

import pytest

from mezzenger import MezzengerServer
from tests.cli.processes import TOOL, Commands, read_until, terminal
from tests.integration.processes import free_ports, wait_for


def to(server: MezzengerServer) -> tuple[object, ...]:
    """Return the options that lead to a server."""
    return ("--send-port", server.recv_port, "--sub-port", server.pub_port)


def measured(commands: Commands, *arguments: object) -> dict[str, Any]:
    result = commands.run(TOOL, "bench", *arguments, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("how", [(), ("--at-once",), ("--names", 3), ("--publishers", 3)], ids=str)
def test_pub_and_sub(commands: Commands, server: MezzengerServer, how: tuple[object, ...]) -> None:
    """Every subscriber counts what the publishers have sent, and their size."""
    names = how if "--names" in how else ()
    receive = ("sub", "--count", 1000, "--subscribers", 2, *names, "--json")
    with (
        terminal() as (ours, theirs),
        commands.started(TOOL, "bench", *receive, *to(server), stderr=theirs) as subscriber,
    ):
        read_until(ours, b"subscribed")
        sent = measured(commands, "pub", "--count", 1000, "--size", 30, *how, *to(server))
        output, _ = subscriber.communicate(timeout=60)
    assert (sent["messages"], sent["size"]) == (1000, 30)
    assert sent["per_second"] > 0
    received = json.loads(output)
    assert (received["messages"], received["missing"], received["size"]) == (2000, 0, 30)
    assert subscriber.returncode == 0


def test_sub_ends_with_a_signal(commands: Commands, server: MezzengerServer) -> None:
    """Ctrl-C ends it, and it tells what it has until then."""
    with commands.started(TOOL, "bench", "sub", "--count", 5, "--json", *to(server)) as subscriber:
        wait_for(lambda: server.stats().names == 1)
        measured(commands, "pub", "--count", 2, *to(server))
        subscriber.send_signal(signal.SIGINT)
        output, _ = subscriber.communicate(timeout=60)
    assert subscriber.returncode == 0
    assert json.loads(output)["missing"] >= 3


def test_sub_without_a_message(commands: Commands, server: MezzengerServer) -> None:
    """Without a first message no time has run."""
    with commands.started(TOOL, "bench", "sub", "--count", 5, "--json", *to(server)) as subscriber:
        wait_for(lambda: server.stats().names == 1)
        time.sleep(1)  # the server knows a little sooner than the command
        subscriber.send_signal(signal.SIGINT)
        output, _ = subscriber.communicate(timeout=60)
    assert subscriber.returncode == 0
    found = json.loads(output)
    assert (found["messages"], found["missing"], found["seconds"], found["per_second"]) == (0, 5, 0, 0)


def test_echo(commands: Commands, server: MezzengerServer) -> None:
    """Percentiles of the way there and back, in their order."""
    found = measured(commands, "echo", "--count", 50, *to(server))
    assert found["messages"] == 50
    assert 0 < found["p50_us"] <= found["p99_us"] <= found["p99.9_us"]


@pytest.mark.parametrize("how", [(), ("--single",)])
def test_durable(commands: Commands, server: MezzengerServer, how: tuple[object, ...]) -> None:
    """All are stored, handled and acknowledged: nothing is left in the server."""
    found = measured(commands, "durable", "--count", 200, *how, *to(server))
    assert found["messages"] == 200
    wait_for(lambda: server.stats().pending == 0)


def test_text_for_people(commands: Commands, server: MezzengerServer) -> None:
    """Without --json there is a line for each figure; a terminal sees a bar as well."""
    result = commands.run(TOOL, "bench", "pub", "--count", 1500, *to(server))
    assert "messages              1,500\n" in result.stdout
    with (
        terminal() as (ours, theirs),
        commands.started(TOOL, "bench", "durable", "--count", 2000, *to(server), stderr=theirs) as process,
    ):
        shown = b""
        while b"stored" not in shown:
            shown += os.read(ours, 4096)
        process.communicate(timeout=60)


def test_without_a_server(commands: Commands) -> None:
    """The exit code is 5, as that of every command."""
    send_port, sub_port = free_ports()
    for command in ("pub", "sub", "echo", "durable"):
        options = ("--send-port", send_port, "--sub-port", sub_port, "--timeout", "0.2")
        assert commands.run(TOOL, "bench", command, *options).returncode == 5
