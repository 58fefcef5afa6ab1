"""``mezzenger retained`` against a real server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mezzenger import ChannelSettings, Mezzenger, MezzengerServer, ServerSettings
from tests.cli.processes import TOOL, Commands, read_until, terminal
from tests.cli.test_tool import client_of, to


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MezzengerServer]:
    """A server that keeps the last message of each name below ``state``."""
    settings = ServerSettings(pub_port=0, recv_port=0, drain_timeout=0.5, persist_file=tmp_path / "store.db")
    with MezzengerServer(settings, {"state.>": ChannelSettings(retain="last")}) as server:
        yield server


@pytest.fixture
def client(server: MezzengerServer) -> Iterator[Mezzenger]:
    """A client of the server."""
    with client_of(server) as client:
        yield client


@pytest.fixture
def kept(client: Mezzenger) -> None:
    """Two last messages: one that was to be stored, and one that was not."""
    client.send_messages("state.lamp", ["off", "on"], ack=1)
    client.send_message("state.door.front", "shut")
    client.flush()


# retained ls.


@pytest.mark.usefixtures("kept")
def test_ls(commands: Commands, server: MezzengerServer) -> None:
    """Each last message is a line: name, id, ack, bytes, when it was made, when it expires."""
    result = commands.run(TOOL, "retained", "ls", *to(server))
    assert (result.returncode, result.stderr) == (0, "")
    door, lamp = (line.split("\t") for line in result.stdout.splitlines())
    assert (door[0], door[2], door[5]) == ("state.door.front", "0", "")
    assert (lamp[0], lamp[2], lamp[5]) == ("state.lamp", "1", "")


@pytest.mark.usefixtures("kept")
def test_ls_json_of_a_pattern(commands: Commands, server: MezzengerServer) -> None:
    """With --json each is an object; a pattern leaves out the others."""
    result = commands.run(TOOL, "retained", "ls", "state.*", "--json", *to(server))
    (lamp,) = map(json.loads, result.stdout.splitlines())
    assert (lamp["name"], lamp["ack"], lamp["expires"]) == ("state.lamp", 1, None)
    assert lamp["size"] > 0


def test_ls_on_a_terminal(commands: Commands, server: MezzengerServer, client: Mezzenger) -> None:
    """A person reads a table, or that there is none."""
    with terminal() as (ours, theirs), commands.started(TOOL, "retained", "ls", *to(server), stdout=theirs):
        read_until(ours, b"no message is kept\r\n")
    client.send_message("state.lamp", "on", ack=1)
    with terminal() as (ours, theirs), commands.started(TOOL, "retained", "ls", *to(server), stdout=theirs):
        assert b"created" in read_until(ours, b"state.lamp")


# retained drop.


@pytest.mark.usefixtures("kept")
def test_drop(commands: Commands, server: MezzengerServer, client: Mezzenger) -> None:
    """It is kept no more; that of another name is."""
    result = commands.run(TOOL, "retained", "drop", "state.lamp", *to(server))
    assert (result.returncode, result.stdout, result.stderr) == (0, "dropped 1\n", "")
    assert [message.name for message in client.retained.list()] == ["state.door.front"]


@pytest.mark.usefixtures("kept")
def test_drop_all(commands: Commands, server: MezzengerServer, client: Mezzenger) -> None:
    """None is kept any more."""
    result = commands.run(TOOL, "retained", "drop", "--all", *to(server))
    assert (result.returncode, result.stdout) == (0, "dropped 2\n")
    assert list(client.retained.list()) == []


def test_drop_of_what_is_not_there(commands: Commands, server: MezzengerServer) -> None:
    """The command says so, and which command shows what there is."""
    result = commands.run(TOOL, "retained", "drop", "state.lamp", *to(server))
    assert (result.returncode, result.stdout) == (2, "dropped 0\n")
    assert "1 of the names have none; `mezzenger retained ls` shows which have one" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("state.lamp", "--all")])
def test_drop_of_what(commands: Commands, server: MezzengerServer, arguments: tuple[str, ...]) -> None:
    """It must be said what is to be dropped, and in one way only."""
    result = commands.run(TOOL, "retained", "drop", *arguments, *to(server))
    assert (result.returncode, result.stdout) == (2, "")
    assert "give either names, or --all" in result.stderr
