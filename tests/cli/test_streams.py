"""Whatever a command prints, it says in one line if that cannot be written, and its exit code tells in any case."""

import os
import signal
from collections.abc import Iterator
from typing import Final

import pytest

from mezzenger import ChannelSettings, MezzengerServer, ResendSettings, ServerSettings
from tests.cli.processes import SERVER, TOOL, Commands
from tests.cli.test_dead import refuse
from tests.cli.test_tool import client_of, to
from tests.integration.processes import free_ports, wait_for

FULL: Final = "cannot write to stdout: No space left on device"
TO_THE_SERVER: Final = (
    ("dead", "ls"),
    ("group", "ls", "--json"),
    ("group", "drop", "jobs", "workers"),
    ("retained", "ls"),
    ("retained", "drop", "state"),
    ("request", "question", "x"),
    ("bench", "pub", "--count", "1"),
)
ALONE: Final = ((TOOL, "--version"), (TOOL, "--help"), (TOOL, "dead", "--help"), (SERVER, "--check-config"))


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server that has something to list."""
    channels = {"state": ChannelSettings(retain="last"), "jobs": ChannelSettings(groups=("workers",))}
    settings = ServerSettings(pub_port=0, recv_port=0, resend=ResendSettings(max_attempts=1))
    with MezzengerServer(settings, channels) as server, client_of(server) as client:
        client.subscribe("question", lambda _payload, _message: "x" * 100_000)
        client.subscribe("broken", refuse)
        client.send_message("state", "on")
        client.send_message("broken", "x", ack=1)
        wait_for(lambda: server.stats().dead == 1)
        yield server


@pytest.fixture
def full() -> Iterator[int]:
    """A file on a disk that is full."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def environ(request: pytest.FixtureRequest) -> dict[str, str]:
    """Whether Python writes at once."""
    return {"PYTHONUNBUFFERED": str(request.param)}


@pytest.mark.parametrize("words", TO_THE_SERVER, ids=" ".join)
def test_a_full_disk(
    commands: Commands, server: MezzengerServer, words: tuple[str, ...], environ: dict[str, str], full: int
) -> None:
    """What asks a server ends with one line and exit code 1."""
    result = commands.run(TOOL, *words, *to(server), environ=environ, stdout=full)
    assert (result.returncode, result.stderr) == (1, f"mezzenger: error: {FULL}\n")


@pytest.mark.parametrize("words", ALONE, ids=" ".join)
def test_a_full_disk_without_a_server(
    commands: Commands, words: tuple[str, ...], environ: dict[str, str], full: int
) -> None:
    """So does what needs no server, help included."""
    result = commands.run(*words, environ=environ, stdout=full)
    command = {SERVER: "mezzenger-server", TOOL: "mezzenger"}[words[0]]
    assert (result.returncode, result.stderr) == (1, f"{command}: error: {FULL}\n")


def test_another_exit_code_stays(commands: Commands, full: int) -> None:
    """That a file is damaged is told though it cannot be printed what is."""
    file = commands.folder / "store.db"
    file.write_bytes(b"x" * 5000)
    result = commands.run(TOOL, "store", "check", file, stdout=full, environ={"PYTHONUNBUFFERED": ""})
    assert (result.returncode, result.stderr) == (4, f"mezzenger: error: {FULL}\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((TOOL, "pub", "a", "x", "--timeout", "200ms"), 5),
        ((TOOL, "pub", "a", "x", "--send-port", "99999"), 2),
        ((TOOL, "pub", "a", "--nonsense"), 2),
        ((SERVER, "--config", "missing.yaml"), 2),
    ],
    ids=str,
)
def test_nothing_can_be_told(commands: Commands, words: tuple[str, ...], code: int, full: int) -> None:
    """If stderr is on a full disk, the exit code still tells."""
    ports = free_ports()
    environ = {"MEZZENGER_CLIENT__SEND_PORT": str(ports.send_port), "MEZZENGER_CLIENT__SUB_PORT": str(ports.sub_port)}
    assert commands.run(*words, stderr=full, environ=environ).returncode == code


def test_nobody_reads(commands: Commands, environ: dict[str, str]) -> None:
    """A pipe that is closed at the other end ends a command as the signal would, without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    result = commands.run(TOOL, "--help", environ=environ, stdout=writer)
    os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")
