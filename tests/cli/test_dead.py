"""``mezzenger dead`` against a real server, whatever was sent and whatever it failed with."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from mezzenger import Mezzenger, MezzengerServer, ResendSettings, ServerSettings
from tests.cli.processes import TOOL, Commands
from tests.cli.test_tool import client_of, to
from tests.integration.processes import wait_for

NAME: Final = "käse.日本"
LATIN: Final = {"PYTHONIOENCODING": "latin-1"}


def refuse(_payload: object, _message: object) -> None:
    raise ValueError("bitte später 😀")


@pytest.fixture
def server() -> Iterator[MezzengerServer]:
    """A server that tries each message once."""
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0, resend=ResendSettings(max_attempts=1))) as server:
        yield server


@pytest.fixture
def client(server: MezzengerServer) -> Iterator[Mezzenger]:
    """A client that can handle nothing of one name."""
    with client_of(server) as client:
        client.subscribe(NAME, refuse)
        yield client


def bury(client: Mezzenger, server: MezzengerServer, payload: object) -> None:
    """Have a payload become dead letter 1."""
    client.send_message(NAME, payload, ack=1)
    wait_for(lambda: server.stats().dead == 1)


@pytest.mark.parametrize(
    ("payload", "written"),
    [
        ({"x": [1, None]}, {"x": [1, None]}),
        ("half \udc80", "half \udc80"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        ({b"k": 1}, "{b'k': 1}"),
        ([1.5, float("nan")], "[1.5, nan]"),
    ],
)
def test_show_json(
    commands: Commands, server: MezzengerServer, client: Mezzenger, payload: object, written: object
) -> None:
    """It is JSON whatever was sent: what JSON does not know stands there as Python writes it."""
    bury(client, server, payload)
    result = commands.run(TOOL, "dead", "show", 1, "--json", *to(server), environ=LATIN)
    assert (result.returncode, result.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (answer["name"], answer["payloads"]) == (NAME, [written])


@pytest.mark.parametrize("words", [("ls",), ("show", 1)])
def test_letters_that_stdout_does_not_have(
    commands: Commands, server: MezzengerServer, client: Mezzenger, words: tuple[object, ...]
) -> None:
    """They are written as Python escapes them, and nothing is left out."""
    bury(client, server, "käse 日本")
    result = commands.run(TOOL, "dead", *words, *to(server), environ={"PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stderr) == (0, "")
    assert r"k\xe4se.\u65e5\u672c" in result.stdout
    assert r"bitte sp\xe4ter \U0001f600" in result.stdout


def test_ls_keeps_its_columns(commands: Commands, server: MezzengerServer, client: Mezzenger) -> None:
    """What would shift or hide columns in a callback's error is escaped."""

    def fail(_payload: object, _message: object) -> None:
        raise ValueError("a\tb\x1b[1mc\u0085 d\nsecond line")

    client.unsubscribe(NAME)
    client.subscribe(NAME, fail)
    bury(client, server, 1)
    result = commands.run(TOOL, "dead", "ls", *to(server))
    (line,) = result.stdout.splitlines()
    assert (len(line.split("\t")), line.split("\t")[-1]) == (8, r"ValueError: a\tb\x1b[1mc")


def test_ls_json_is_utf8(commands: Commands, server: MezzengerServer, client: Mezzenger) -> None:
    """Whatever the locale says: programs read JSON as UTF-8."""
    bury(client, server, 1)
    result = commands.run(TOOL, "dead", "ls", "--json", *to(server), environ=LATIN)
    assert (result.returncode, json.loads(result.stdout)["name"]) == (0, NAME)
