"""``mezzenger group``, and what the other commands have of groups and patterns, against a real server."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mezzenger import ClientSettings, Mezzenger, MezzengerServer, ResendSettings, ServerSettings
from tests.cli.processes import TOOL, Commands, read_line, read_until, terminal
from tests.cli.test_tool import client_of, subscribed, to
from tests.integration.processes import wait_for


def nothing(_payload: object, _message: object) -> None:
    """Take a message."""


@pytest.fixture
def client(server: MezzengerServer) -> Iterator[Mezzenger]:
    """A client of the server."""
    with client_of(server) as client:
        yield client


@pytest.fixture
def groups(client: Mezzenger) -> None:
    """Two groups: one with a member, one without, for which two messages wait."""
    client.subscribe("orders.*", nothing, group="packers")
    client.subscribe("mail", nothing, group="senders")
    client.unsubscribe("mail", group="senders")
    client.send_messages("mail", ["one", "two"], ack=1)


# group ls.


@pytest.mark.usefixtures("groups")
def test_ls(commands: Commands, server: MezzengerServer) -> None:
    """Each group is a line: name, group, members, pending, in hand, delayed."""
    result = commands.run(TOOL, "group", "ls", *to(server))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["mail\tsenders\t0\t2\t0\t0", "orders.*\tpackers\t1\t0\t0\t0"]


@pytest.mark.usefixtures("groups")
def test_ls_json(commands: Commands, server: MezzengerServer) -> None:
    """With --json each group is an object with all that is known of it."""
    result = commands.run(TOOL, "group", "ls", "--json", *to(server))
    mail, orders = map(json.loads, result.stdout.splitlines())
    assert mail.pop("pending_size") > 0
    assert mail == {"name": "mail", "group": "senders", "members": 0, "pending": 2, "in_hand": 0, "delayed": 0}
    assert (orders["name"], orders["group"], orders["members"]) == ("orders.*", "packers", 1)


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_ls_of_none(commands: Commands, server: MezzengerServer, arguments: tuple[str, ...]) -> None:
    """Where there are no groups, a script reads nothing."""
    result = commands.run(TOOL, "group", "ls", *arguments, *to(server))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_ls_on_a_terminal(commands: Commands, server: MezzengerServer, client: Mezzenger) -> None:
    """A person reads a table, or that there are none."""
    with terminal() as (ours, theirs), commands.started(TOOL, "group", "ls", *to(server), stdout=theirs):
        read_until(ours, b"no groups\r\n")
    client.subscribe("orders.*", nothing, group="packers")
    with terminal() as (ours, theirs), commands.started(TOOL, "group", "ls", *to(server), stdout=theirs):
        assert b"members" in read_until(ours, b"packers")


# group drop.


@pytest.mark.usefixtures("groups")
def test_drop(commands: Commands, server: MezzengerServer, client: Mezzenger) -> None:
    """The group is gone, with the messages that waited for it."""
    result = commands.run(TOOL, "group", "drop", "mail", "senders", *to(server))
    assert (result.returncode, result.stdout, result.stderr) == (0, "dropped 2 messages with the group\n", "")
    assert [group.group for group in client.groups.list()] == ["packers"]
    assert server.stats().pending == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("orders.*", "packers"), 1, "group 'packers' of 'orders.*' has 1 members; stop them first"),
        (("orders.*", "nobody"), 1, "there is no group 'nobody' of 'orders.*'"),
        (("orders.*", "a|b"), 2, "'a|b'"),
        (("a|b", "packers"), 2, "'a|b'"),
        (("orders.*",), 2, "GROUP"),
    ],
)
@pytest.mark.usefixtures("groups")
def test_what_drop_refuses(
    *, commands: Commands, server: MezzengerServer, client: Mezzenger, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """A group with members, one that is not there, and names that cannot be; nothing is dropped."""
    result = commands.run(TOOL, "group", "drop", *arguments, *to(server))
    assert (result.returncode, result.stdout) == (code, "")
    assert words in result.stderr
    assert len(list(client.groups.list())) == 2


# sub.


def test_sub_as_a_member(commands: Commands, server: MezzengerServer, client: Mezzenger) -> None:
    """With --group it takes its share only, acknowledges what it prints, and leaves the group there."""
    with commands.started(TOOL, "sub", "jobs", "--group", "workers", "--prefetch", 1, *to(server)) as process:
        wait_for(lambda: [group.members for group in client.groups.list()] == [1])
        others: list[object] = []
        client.subscribe("jobs", lambda payload, _message: others.append(payload), group="workers", prefetch=1)
        client.send_messages("jobs", range(20), ack=1)
        wait_for(lambda: server.stats().pending == 0)
        assert process.stdout is not None
        process.terminate()
        lines = process.stdout.read().decode().splitlines()
    assert len(lines) + len(others) == 20
    assert 0 < len(lines) < 20
    assert [group.group for group in client.groups.list()] == ["workers"]


def test_sub_to_a_pattern(commands: Commands, server: MezzengerServer) -> None:
    """Each line tells whose it is, for a pattern may match any number of names."""
    with subscribed(commands, server, "orders.>") as process, client_of(server) as client:
        client.send_message("other", "no")
        client.send_message("orders.tea", "yes")
        assert read_line(process) == "orders.tea: yes"
        client.send_message("orders.tea.paid", "that too", ack=1)
        assert read_line(process) == "orders.tea.paid: that too"
        wait_for(lambda: server.stats().acked == 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("jobs", "--prefetch", "1"), "--prefetch is for members of a group; give --group NAME, too"),
        (("jobs", "--group", "a|b"), "'a|b'"),
        (("jobs", "--group", ""), "must not be empty"),
        (("jobs", "--group", "workers", "--prefetch", "0"), "--prefetch"),
        (("jobs", "--group", "workers", "--prefetch", "65537"), "--prefetch"),
    ],
)
def test_bad_arguments(commands: Commands, arguments: tuple[str, ...], words: str) -> None:
    """What is wrong is said without asking a server, and the exit code is 2."""
    result = commands.run(TOOL, "sub", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr


# dead.


def test_dead_letters_of_groups(commands: Commands) -> None:
    """They tell whose members could not handle them; those of subscribers have no group."""

    def refuse(_payload: object, _message: object) -> None:
        raise ValueError("no")

    settings = ServerSettings(pub_port=0, recv_port=0, resend=ResendSettings(max_attempts=1))
    with (
        MezzengerServer(settings) as server,
        Mezzenger(settings=ClientSettings(send_port=server.recv_port, sub_port=server.pub_port)) as client,
    ):
        client.subscribe("jobs.*", refuse, group="workers")
        client.send_message("jobs.mail", 1, ack=1)
        wait_for(lambda: server.stats().dead == 1)
        client.subscribe("news", refuse)
        client.send_message("news", 1, ack=1)
        wait_for(lambda: server.stats().dead == 2)
        of_group, of_subscriber = client.dead.list()
        assert (of_group.name, of_group.group, of_subscriber.group) == ("jobs.mail", "workers", None)
        listed = commands.run(TOOL, "dead", "ls", *to(server)).stdout.splitlines()
        assert [line.split("\t")[1:3] for line in listed] == [["jobs.mail", "workers"], ["news", "-"]]
        shown = commands.run(TOOL, "dead", "show", of_group.number, *to(server)).stdout
        assert "group:      workers of jobs.*\n" in shown
        answer: dict[str, Any] = json.loads(commands.run(TOOL, "dead", "show", 2, "--json", *to(server)).stdout)
        assert answer["group"] is None
