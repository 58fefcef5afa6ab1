"""``mezzenger pub`` and ``mezzenger sub`` as processes, against a real server."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import mezzenger
from mezzenger import Message, Mezzenger, MezzengerServer
from tests.cli.processes import TOOL, Commands, read_line, read_until, terminal
from tests.integration.processes import free_ports, wait_for


def to(server: MezzengerServer) -> tuple[object, ...]:
    """Return the options that lead to a server."""
    return ("--send-port", server.recv_port, "--sub-port", server.pub_port)


def client_of(server: MezzengerServer) -> Mezzenger:
    return Mezzenger(send_port=server.recv_port, sub_port=server.pub_port)


@contextmanager
def subscribed(
    commands: Commands, server: MezzengerServer, *arguments: object, names: int = 1, stdout: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``mezzenger sub``; it is subscribed when this is entered."""
    with commands.started(TOOL, "sub", *arguments, *to(server), stdout=stdout) as process:
        wait_for(lambda: server.stats().names == names)
        yield process


@pytest.fixture
def arrived(server: MezzengerServer) -> Iterator[list[Message[Any]]]:
    """What arrives under the name ``greetings``."""
    messages: list[Message[Any]] = []
    with client_of(server) as client:
        client.subscribe("greetings", lambda _payload, message: messages.append(message))
        yield messages


# pub.


@pytest.mark.parametrize(
    ("arguments", "text", "payloads"),
    [
        (("hello",), None, ["hello"]),
        (("",), None, [""]),
        (('{"x": [1, null]}', "--json"), None, [{"x": [1, None]}]),
        (("-3.5", "--json"), None, [-3.5]),
        (("--json", "-1e3"), None, [-1000]),
        (("-5",), None, ["-5"]),
        ((), "two\nlines\n", ["two\nlines\n"]),
        (("--json",), "[1,\n2]\n", [[1, 2]]),
        (("--lines",), "a\n\nc\x0cc\nlast", ["a", "", "c\x0cc", "last"]),
        (("--lines",), "a\r\n\r\nb\rc\r\r\nlast\r", ["a", "", "b\rc\r", "last"]),
        (("--lines", "--json"), '1\n"b"\n', [1, "b"]),
        (("--lines",), "", []),
    ],
)
def test_pub_sends(
    *,
    commands: Commands,
    server: MezzengerServer,
    arrived: list[Message[Any]],
    arguments: tuple[str, ...],
    text: str | None,
    payloads: list[object],
) -> None:
    """An argument, all of stdin or each of its lines is sent, as text or as JSON; nothing is printed."""
    result = commands.run(TOOL, "pub", "greetings", *arguments, *to(server), text=text)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    wait_for(lambda: len(arrived) == len(payloads))
    assert [message.payload for message in arrived] == payloads


def test_pub_ack_and_headers(commands: Commands, server: MezzengerServer) -> None:
    """With --ack the server keeps the message; the headers travel along."""
    arguments = ("greetings", "hello", "--ack", "--header", "a=1", "--header", "b=2=3")
    assert commands.run(TOOL, "pub", *arguments, *to(server)).returncode == 0
    assert server.stats().pending == 1
    messages: list[Message[Any]] = []
    with client_of(server) as client:
        client.subscribe("greetings", lambda _payload, message: messages.append(message))
        wait_for(lambda: messages)
    assert (messages[0].ack, messages[0].headers) == (1, {"a": "1", "b": "2=3"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_pub_lines_as_they_come(
    commands: Commands, server: MezzengerServer, arrived: list[Message[Any]], number: signal.Signals
) -> None:
    """A line is sent before the next one comes; bytes that are not UTF-8 are replaced; a signal ends it with 0."""
    with commands.started(TOOL, "pub", "greetings", "--lines", *to(server)) as process:
        assert process.stdin is not None
        process.stdin.write(b"first\n")
        wait_for(lambda: arrived)
        process.stdin.write(b"\xff\nincompl")
        wait_for(lambda: len(arrived) == 2)
        process.send_signal(number)
        assert process.wait(10) == 0
    assert [message.payload for message in arrived] == ["first", "\ufffd"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_pub_interrupted(commands: Commands, server: MezzengerServer, number: signal.Signals, code: int) -> None:
    """A message that was not sent is no success: a signal while stdin is read as a whole ends with 128 and more."""
    with commands.started(TOOL, "pub", "greetings", *to(server)) as process:
        wait_for(lambda: server.stats().peers == 1)
        time.sleep(0.1)  # until it reads
        process.send_signal(number)
        assert read_line(process, "stderr") == "mezzenger: interrupted before the message was sent for certain"
        assert process.wait(10) == code


def test_pub_many_lines(commands: Commands, server: MezzengerServer, arrived: list[Message[Any]]) -> None:
    """50,000 lines, one of them longer than any buffer, arrive in order and within seconds."""
    lines = [str(number) for number in range(50_000)] + ["x" * 3_000_000, "end"]
    before = time.monotonic()
    result = commands.run(TOOL, "pub", "greetings", "--lines", "--ack", *to(server), text="\n".join(lines))
    assert (result.returncode, result.stderr) == (0, "")
    assert time.monotonic() - before < 10
    wait_for(lambda: len(arrived) == len(lines))
    assert [message.payload for message in arrived] == lines


def test_pub_invalid_json_line(commands: Commands, server: MezzengerServer, arrived: list[Message[Any]]) -> None:
    """The lines before the wrong one are sent, the error names its number, and the exit code is 2."""
    result = commands.run(TOOL, "pub", "greetings", "--lines", "--json", *to(server), text="1\n2\nthree\n4\n")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("mezzenger: error: stdin, line 3: not valid JSON")
    wait_for(lambda: len(arrived) == 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pub", "a|b", "x"), "'a|b'"),
        (("sub", "a", ""), "must not be empty"),
        (("pub", "a", "x", "--lines"), "--lines"),
        (("pub", "a", "{", "--json"), "PAYLOAD, line 1: not valid JSON"),
        (("pub", "a", "x", "--header", "novalue"), "KEY=VALUE"),
        (("pub", "a", "x", "--send-port", "99999"), "client.send_port: must be at most 65535"),
        (("sub", "a", "--timeout", "soon"), "client.send_timeout"),
        (("sub", "a", "--count", "0"), "--count"),
        (("sub",), "NAME"),
        (("pub", "a", "--nonsense"), "--nonsense"),
        (("pub", "a", "-5", "--nonsense"), "--nonsense"),
        (("pub", "a", "-x"), "-x"),
    ],
)
def test_bad_arguments(commands: Commands, arguments: tuple[str, ...], words: str) -> None:
    """What is wrong with an argument is said without asking a server, and the exit code is 2."""
    result = commands.run(TOOL, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_key_in_the_file(commands: Commands) -> None:
    """A problem of the YAML file is told with file and line, and the exit code is 2."""
    (commands.folder / "mezzenger.yaml").write_text("client:\n  codex: json\n")
    result = commands.run(TOOL, "pub", "a", "x")
    assert result.returncode == 2
    assert result.stderr.startswith("mezzenger: error: mezzenger.yaml:2: client.codex: unknown key")


@pytest.mark.parametrize("command", [("pub", "a", "x"), ("sub", "a")])
def test_no_server(commands: Commands, command: tuple[str, ...]) -> None:
    """Without a server the answer is one line and exit code 5, after one attempt and not six."""
    ports = free_ports()
    before = time.monotonic()
    result = commands.run(
        TOOL, *command, *(f"--{k.replace('_', '-')}={v}" for k, v in ports._asdict().items()), "--timeout=2s"
    )
    assert time.monotonic() - before < 2 * 5
    assert (result.returncode, result.stdout) == (5, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("mezzenger: error: no answer in time from the server at 127.0.0.1")


def test_precedence(commands: Commands, server: MezzengerServer) -> None:
    """The command line wins over the environment, that over the YAML file."""
    (commands.folder / "mezzenger.yaml").write_text(f"client:\n  send_port: 1\n  sub_port: {server.pub_port}\n")
    environ = {"MEZZENGER_CLIENT__SEND_PORT": str(server.recv_port), "MEZZENGER_CLIENT__SEND_TIMEOUT": "200ms"}
    assert commands.run(TOOL, "pub", "a", "x", environ=environ).returncode == 0
    assert commands.run(TOOL, "pub", "a", "x", "--send-port", 1, environ=environ).returncode == 5


def test_any_other_error(commands: Commands, server: MezzengerServer) -> None:
    """What is none of the bad arguments ends with 1, in one line."""
    result = commands.run(TOOL, "pub", "a", "x", *to(server), environ={"MEZZENGER_CLIENT__CODEC": "raw"})
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)


def test_pub_progress(commands: Commands, server: MezzengerServer) -> None:
    """A terminal sees how many messages were sent."""
    with (
        terminal() as (ours, theirs),
        commands.started(TOOL, "pub", "a", "--lines", *to(server), stderr=theirs) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(b"1\n2\n3\n")
        process.stdin.close()
        read_until(ours, b"3 messages sent")
        assert process.wait(10) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""


# sub.


def test_sub_prints(commands: Commands, server: MezzengerServer) -> None:
    """Each message is a line at once: text as it is, the rest as Python shows it."""
    with subscribed(commands, server, "greetings") as process, client_of(server) as client:
        for payload, line in [
            ("höllo", "höllo"),
            ("", ""),
            (1, "1"),
            ({"a": b"b"}, "{'a': b'b'}"),
            ("\udc80", "\\udc80"),
        ]:
            client.send_message("greetings", payload)
            assert read_line(process) == line


def test_sub_of_many_names(commands: Commands, server: MezzengerServer) -> None:
    """With several names, one of them twice, each line tells whose it is; on a pipe it has no colour."""
    with subscribed(commands, server, "a", "b", "a", names=2) as process, client_of(server) as client:
        client.send_message("b", "hello")
        assert read_line(process) == "b: hello"
        client.send_message("a", "ho")
        assert read_line(process) == "a: ho"


def test_sub_json(commands: Commands, server: MezzengerServer) -> None:
    """With --json each line is an object with all that a message has; what JSON cannot hold is shown as Python does."""
    with subscribed(commands, server, "a", "--json") as process, client_of(server) as client:
        client.send_message("a", {"x": [1, "é\udc80\n"]}, ack=1, headers={"k": "v"})
        message = json.loads(read_line(process))
        assert 0 <= time.time() - message.pop("timestamp") < 20
        assert message.pop("id").endswith("-1")
        how = {"ack": 1, "retained": False, "attempt": 1, "headers": {"k": "v"}}
        assert message == {"name": "a", "payload": {"x": [1, "é\udc80\n"]}} | how
        for payload in (b"bytes", float("nan"), {1, 2}):
            client.send_message("a", payload)
            message = json.loads(read_line(process))
            assert (message["payload_repr"], "payload" in message) == (repr(payload), False)


def test_sub_count(commands: Commands, server: MezzengerServer) -> None:
    """--count prints exactly so many; these are acknowledged, and what came with them is left to others."""
    with client_of(server) as client:
        client.send_messages("a", range(10), ack=1)
        first = commands.run(TOOL, "sub", "a", "--count", 3, *to(server))
        assert (first.returncode, first.stdout, first.stderr) == (0, "0\n1\n2\n", "")
        assert server.stats().acked == 3
        second = commands.run(TOOL, "sub", "a", "--count", 7, *to(server))
        assert (second.returncode, second.stdout.split()) == (0, [str(number) for number in range(3, 10)])
        assert (server.stats().acked, server.stats().pending) == (10, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_sub(commands: Commands, server: MezzengerServer, number: signal.Signals) -> None:
    """After Ctrl-C or SIGTERM the acks go out, nothing is said, and the exit code is 0."""
    with subscribed(commands, server, "a") as process, client_of(server) as client:
        client.send_message("a", "x", ack=1)
        read_line(process)
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert server.stats().pending == 0


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_closed_stdout_ends_sub(commands: Commands, server: MezzengerServer, is_idle: bool) -> None:
    """When nobody reads any more it ends with 0, without a word, also if no message comes; none is lost that way."""
    with subscribed(commands, server, "a") as process, client_of(server) as client:
        if not is_idle:
            process.send_signal(signal.SIGSTOP)
        assert process.stdout is not None
        process.stdout.close()
        if not is_idle:
            client.send_message("a", "x", ack=1)
            process.send_signal(signal.SIGCONT)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert server.stats().pending == (0 if is_idle else 1)


def test_a_full_disk(commands: Commands, server: MezzengerServer) -> None:
    """When stdout cannot be written it ends with 1 and one line, and the message stays unacknowledged."""
    full = os.open("/dev/full", os.O_WRONLY)
    with subscribed(commands, server, "a", stdout=full) as process, client_of(server) as client:
        os.close(full)
        client.send_message("a", "x", ack=1)
        assert read_line(process, "stderr") == "mezzenger: error: cannot write to stdout: No space left on device"
        assert process.wait(10) == 1
        assert server.stats().pending == 1


def test_sub_on_a_terminal(commands: Commands, server: MezzengerServer) -> None:
    """A terminal is told what was subscribed to, and shows names in colour."""
    with (
        terminal() as (ours, theirs),
        commands.started(TOOL, "sub", "a", "b", *to(server), stdout=theirs, stderr=theirs),
    ):
        read_until(ours, b"subscribed to a, b\r\n")
        with client_of(server) as client:
            client.send_message("a", "x")
        assert read_until(ours, b"\n") == b"\x1b[36ma\x1b[0m: x\r\n"


def test_warnings_of_the_library(commands: Commands, server: MezzengerServer) -> None:
    """A payload that is not to be trusted, and a server that goes away, are told in a line each; sub goes on."""
    (commands.folder / "mezzenger.yaml").write_text("client:\n  allow_pickle: never\n  auto_start: false\n")
    with subscribed(commands, server, "a") as process:
        with client_of(server) as client:
            client.send_message("a", "x")
            line = read_line(process, "stderr")
            assert line.startswith("mezzenger: ERROR: message 'a' was not handled: ")
            assert "client.allow_pickle" in line
        server.stop()
        assert read_line(process, "stderr").startswith("mezzenger: WARNING: the connection is lost")
        assert process.poll() is None


def test_help_and_version(commands: Commands) -> None:
    """--version prints the version, --help names the commands and the exit codes."""
    assert commands.run(TOOL, "--version").stdout == f"{mezzenger.__version__}\n"
    text = commands.run(TOOL, "--help").stdout
    assert [word for word in ("pub", "sub", "Exit codes") if word not in text] == []
