"""``mezzenger request`` as a process, against a real server."""

import time
from collections.abc import Iterator

import pytest

from mezzenger import Message, Mezzenger, MezzengerServer
from tests.cli.processes import TOOL, Commands
from tests.cli.test_tool import client_of, to
from tests.integration.processes import free_ports


def fail(_payload: object, _msg: Message[object]) -> None:
    raise ValueError("not\ntoday")


@pytest.fixture
def responder(server: MezzengerServer) -> Iterator[Mezzenger]:
    """Answers a few requests."""
    with client_of(server) as client:
        client.subscribe("echo", lambda payload, _msg: payload)
        client.subscribe("headers", lambda _payload, msg: dict(msg.headers))
        client.subscribe("set", lambda _payload, _msg: {5})
        client.subscribe("fail", fail)
        yield client


@pytest.mark.usefixtures("responder")
@pytest.mark.parametrize(
    ("arguments", "text", "printed"),
    [
        (("echo", "hello"), None, "hello\n"),
        (("echo", ""), None, "\n"),
        (("echo", "caf\xe9"), None, "caf\xe9\n"),
        (("echo",), "two\nlines\n", "two\nlines\n\n"),
        (("echo", '{"x": [1, null]}', "--json"), None, '{"x": [1, null]}\n'),
        (("echo", "--json"), "[1,\n2]\n", "[1, 2]\n"),
        (("echo", "-2.5", "--json"), None, "-2.5\n"),
        (("set", "x"), None, "{5}\n"),
        (("headers", "x", "--json", "--header", "a=b"), '"x"', None),
        (("headers", '"x"', "--json", "--header", "a=b", "--header", "c="), None, '{"a": "b", "c": ""}\n'),
    ],
)
def test_the_answer_is_printed(
    commands: Commands, server: MezzengerServer, arguments: tuple[str, ...], text: str | None, printed: str | None
) -> None:
    """A text or JSON is asked, and what the callback returned is printed likewise."""
    result = commands.run(TOOL, "request", *arguments, *to(server), text=text)
    if printed is None:
        assert result.returncode == 2
        assert "PAYLOAD, line 1: not valid JSON" in result.stderr
    else:
        assert (result.returncode, result.stdout, result.stderr) == (0, printed, "")


@pytest.mark.usefixtures("responder")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("fail", "x"), 1, "error: the responder to 'fail' failed: ValueError: not today"),
        (("nobody", "x"), 1, "error: no response to the request 'nobody': nobody subscribes to 'nobody'"),
        (("set", '"x"', "--json"), 1, "error: the answer to 'set' cannot be printed as JSON"),
        (("a|b", "x"), 2, "error: message name 'a|b'"),
        (("echo", "x", "--json"), 2, "error: PAYLOAD, line 1: not valid JSON"),
        (("echo", "x", "--header", "=b"), 2, "error: --header '=b': must be KEY=VALUE"),
        (("echo", "x", "--timeout", "soon"), 2, "send_timeout"),
    ],
)
def test_what_fails(
    commands: Commands, server: MezzengerServer, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """One line says why, and the exit code tells what kind of failure it is."""
    result = commands.run(TOOL, "request", *arguments, *to(server))
    assert (result.returncode, result.stdout) == (code, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_it_takes_too_long(commands: Commands, server: MezzengerServer) -> None:
    """A responder that does not answer within --timeout is given up, however often the server may be tried."""
    with client_of(server) as client:
        client.subscribe("slow", lambda _payload, msg: Hold.until(msg))
        result = commands.run(TOOL, "request", "slow", "x", "--timeout", "1s", "--retries", "2", *to(server))
    assert result.returncode == 1
    assert "no response to the request 'slow' within 1 s" in result.stderr


class Hold:
    """Keeps a callback until who asked has given up."""

    @staticmethod
    def until(msg: Message[object]) -> None:
        assert msg.deadline is not None
        remaining = msg.deadline - time.time()
        assert 0 < remaining <= 1
        time.sleep(remaining + 0.2)


def test_without_a_server(commands: Commands) -> None:
    """Exit code 5 says that the server is out of reach."""
    ports = free_ports()
    options = ("--send-port", ports.send_port, "--sub-port", ports.sub_port, "--timeout", "300ms")
    result = commands.run(TOOL, "request", "echo", "x", *options)
    assert result.returncode == 5
    assert str(ports.send_port) in result.stderr
