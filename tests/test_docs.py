"""The pages in docs/ agree with the code: commands, frames, reasons, links, and the tests that prove the promises."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from mezzenger import Mezzenger, MezzengerServer, ServerSettings
from mezzenger.message import MAX_HEADER_BYTES, MAX_NAME_BYTES
from mezzenger.patterns import matches
from mezzenger.protocol import commands, wire
from mezzenger.protocol.commands import Command, Failure
from tests.test_readme import BLOCKS, Block, Place, bash, finished, read_blocks
from tests.testing.test_plugin import OPTIONS

pytest_plugins = ["pytester"]

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
PROTOCOL: Final = (ROOT / "docs" / "protocol.md").read_text("utf-8")
GUARANTEES: Final = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
ARCHITECTURE: Final = (ROOT / "docs" / "architecture.md").read_text("utf-8")
MAX_WIDTH: Final = 120

COMMANDS: Final = Command.__subclasses__()
SENDERS: Final = {commands.ClientCommand: "client", commands.ServerCommand: "server"}


def tag_of(command: type[Command]) -> str:
    tag = command.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def words(text: str) -> list[str]:
    """Return what stands in backticks, outside the fenced blocks."""
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("command", COMMANDS, ids=tag_of)
def test_each_command_is_described(command: type[Command]) -> None:
    """The table of commands has each one, with who sends it and all its fields in the order of the wire."""
    (row,) = re.findall(rf"^\| `{tag_of(command)}` \| (\w+) \| (.*?) \| \S", PROTOCOL, re.MULTILINE)
    sender, fields = row
    assert command in next(union for union, who in SENDERS.items() if who == sender).__args__
    assert tuple(words(fields)) == command.__struct_fields__


@pytest.mark.parametrize("command", COMMANDS, ids=tag_of)
def test_each_command_is_in_the_grammar(command: type[Command]) -> None:
    """The grammar has each command as it is written, and says which side may send it."""
    tag = tag_of(command)
    (fields,) = re.findall(rf'^{tag} *= \["{tag}"(.*)\]$', PROTOCOL, re.MULTILINE)
    inner = re.sub(r"\[.*?\](?=\]|,|$| /)", "", fields)
    assert tuple(re.findall(r"(\w+):", inner)) == command.__struct_fields__
    for union, sender in SENDERS.items():
        (sent,) = re.findall(rf"^{sender}-command = (.*(?:\n +/ .*)*)$", PROTOCOL, re.MULTILINE)
        assert (tag in re.split(r"\s+/ ", sent)) == (command in union.__args__)


@pytest.mark.parametrize(
    "field",
    sorted({field for command in COMMANDS for field in command.__struct_fields__} | {*Failure.__struct_fields__}),
)
def test_each_field_is_explained(field: str) -> None:
    """The table of fields has each one with its type."""
    rows = re.findall(r"^\| (`.*?`) \| [\w ,]+", PROTOCOL, re.MULTILINE)
    assert field in {word for row in rows for word in words(row)}


def test_no_command_is_made_up() -> None:
    """The table has no command that is not there."""
    rows = re.findall(r"^\| `(\w+)` \| (?:client|server) \|", PROTOCOL, re.MULTILINE)
    assert sorted(rows) == sorted(map(tag_of, COMMANDS))


def reasons() -> Iterator[str]:
    """Yield the words with which frames are counted and peers are sent away."""
    for folder in ("protocol", "broker"):
        for file in (ROOT / "mezzenger" / folder).glob("*.py"):
            yield from re.findall(
                r'(?:ProtocolError\(|_dismiss\(peer, |_goodbye\(\w+, )"(\w+)"', file.read_text("utf-8")
            )


@pytest.mark.parametrize("reason", sorted(set(reasons())))
def test_each_reason_is_described(reason: str) -> None:
    """Whoever sees a reason in a counter or an answer finds it in a table."""
    assert any(f"`{reason}`" in line for line in PROTOCOL.splitlines() if line.startswith("|"))


def test_limits_are_as_in_the_code() -> None:
    """The numbers that a client must keep are those that the code has."""
    for text in (
        f"| name | {MAX_NAME_BYTES} bytes |",
        f"| headers of a message | {MAX_HEADER_BYTES} bytes",
        f"| messages in a batch | {wire.MAX_BATCH};",
        f"| names in one `subscribe` | {commands.NAMES_PER_SUBSCRIBE} |",
        f"sends at most {commands.DELIVERIES_PER_ACK} |",
        f"at most {commands.MAX_ERROR_CHARACTERS} characters",
        f"| `token` | {commands.TOKEN_BYTES} bytes |",
        f"| `version` | integer | of the protocol: {commands.PROTOCOL_VERSION} |",
        f"| version | u8 | {wire.VERSION} |",
    ):
        assert text in PROTOCOL


def test_the_frames_in_bytes_are_frames() -> None:
    """The two frames that the page shows byte by byte hold what it says."""
    data, control = (bytes.fromhex(block.text) for block in read_blocks(PROTOCOL) if block.language == "hex")
    contents = wire.read_contents(data)
    header, extra, items = contents.header, contents.extra, contents.items
    assert (header.name, header.ack, header.client, header.sequence) == ("greetings", 1, 0x1122334455667788, 9)
    assert (extra.headers, [(item.timestamp, bytes(item.payload)) for item in items]) == ({"a": "b"}, [(1.5, b"hi")])
    assert wire.decode_client_command(control) == commands.Ping(5)


def test_the_whole_client_works(tmp_path: Path) -> None:
    """The client that is shown, written without Mezzenger, talks to the server and prints what is shown."""
    (program,) = (block for block in read_blocks(PROTOCOL) if block.language == "python")
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0)) as server:
        source = program.text
        for port, free in ((7202, server.recv_port), (7201, server.pub_port)):
            assert source.count(f"127.0.0.1:{port}") == 1
            source = source.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        (tmp_path / "client.py").write_text(source, "utf-8")
        assert finished(["python", "client.py"], Place(tmp_path, server)) == program.output
        stats = server.stats()
        assert (stats.published, stats.stored, stats.acked, stats.pending, stats.malformed) == (1, 1, 1, 0, {})


PROGRAMS: Final = [
    (page, block)
    for page in [ROOT / "docs" / f"{name}.md" for name in ("asyncio", "channels", "groups", "requests", "tracing")]
    for block in read_blocks(page.read_text("utf-8"))
    if block.language == "python" or block.text.startswith("mezzenger ")
]


def left_behind(program: Block, server: MezzengerServer) -> set[str]:
    """Return names and patterns that another program had better not use after this one, on the same server."""
    with Mezzenger(send_port=server.recv_port, sub_port=server.pub_port) as client:
        left = {group.name for group in client.groups.list()}
    stats = server.stats()
    if stats.pending or stats.dead:
        left.update(re.findall(r'send_messages?\("([^"]+)"', program.text))
    return left


@pytest.mark.parametrize(("page", "program"), PROGRAMS, ids=[f"{page.name}:{block.line}" for page, block in PROGRAMS])
def test_programs_print_what_is_shown(page: Path, program: Block, tmp_path: Path) -> None:
    """Each program and command of these pages runs as it is, ends by itself, and prints what stands below it.

    Whoever tries them one after the other, in whatever order, sees the same: a group that one leaves behind would
    collect what another one sends, and be given what waits for that.
    """
    for block in read_blocks(page.read_text("utf-8")):
        if named := re.match(r"# (\w+\.py)\n", block.text):
            (tmp_path / named[1]).write_text(block.text, "utf-8")
    command = [sys.executable, "-c", program.text] if program.language == "python" else bash(program.text)
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0)) as server:
        assert finished(command, Place(tmp_path, server)) == (program.output or "")
        left = left_behind(program, server)
    others = [*BLOCKS, *(block for _, block in PROGRAMS)]
    used = {word for other in others if other is not program for word in re.findall(r"[\w.]+", other.text)}
    assert [(name, word) for name in left for word in used if matches(name, word)] == []


TESTING: Final = read_blocks((ROOT / "docs" / "testing.md").read_text("utf-8"))


@pytest.mark.parametrize(
    "block", [block for block in TESTING if "def test_" in block.text], ids=lambda block: block.line
)
def test_tests_that_are_shown_pass(block: Block, pytester: pytest.Pytester) -> None:
    """Each block of docs/testing.md that has tests is a file of tests; all of them pass, with the program beside it."""
    programs = {match[1]: shown.text for shown in TESTING if (match := re.match(r"# (\w+)\.py\n", shown.text))}
    pytester.makepyfile(**programs, test_shown=block.text)
    result = pytester.runpytest_subprocess(*OPTIONS, "test_shown.py")
    result.assert_outcomes(passed=block.text.count("def test_"))


def defined_in(file: Path) -> set[str]:
    """Return the tests of a file, as pytest names them within it, and its classes."""
    found: set[str] = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("test", sorted({word for word in words(GUARANTEES) if "::" in word}))
def test_the_proofs_exist(test: str) -> None:
    """Every test that docs/guarantees.md names is there."""
    file, _, name = test.partition("::")
    assert name in defined_in(ROOT / file)


def test_each_promise_has_a_proof() -> None:
    """Each section of docs/guarantees.md about a promise says what it does not survive, and names a test."""
    _, *sections = re.split(r"^## (?=P\d)", GUARANTEES, flags=re.MULTILINE)
    assert [section.partition(":")[0] for section in sections] == [f"P{number}" for number in range(1, 10)]
    for section in sections:
        assert re.search(r"\*\*Does not (survive|hold)", section)
        assert "::test_" in section.partition("**Proved by:**")[2]


@pytest.mark.parametrize(
    "word", sorted({word for word in words(ARCHITECTURE) if re.match(r"(mezzenger|tests)/", word)})
)
def test_files_that_are_named_exist(word: str) -> None:
    """docs/architecture.md sends nobody to a file that is gone."""
    assert (ROOT / word).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is to a file that is there, and to a heading of it where it names one."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text("utf-8")), target


def anchors(text: str) -> set[str]:
    """Return the anchors that a page's headings have."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_are_short(page: Path) -> None:
    """No line is longer than the code's."""
    lines = page.read_text("utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > MAX_WIDTH] == []
