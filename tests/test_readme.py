"""README.md is true: every fenced block of it is executed, or compared with what it shows.

A block is judged by the first rule of ``RULES`` that knows its kind. One that no rule knows fails its test.
"""

import ast
import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import mezzenger
from mezzenger import MezzengerServer, ResendSettings, ServerSettings, Settings
from tests.integration.processes import free_ports, wait_for

ROOT: Final = Path(__file__).parent.parent
README: Final = (ROOT / "README.md").read_text("utf-8")
MAX_LINES: Final = 250
ADDRESS: Final = 'server_address="127.0.0.1"'
PATIENCE: Final = 60.0


class Block(NamedTuple):
    """A fenced block, and the output that the README shows for it in a ``text`` block right behind it."""

    line: int
    language: str
    text: str
    output: str | None = None


class Place(NamedTuple):
    """Where a block runs: a folder, and a server for its clients."""

    folder: Path
    server: MezzengerServer

    def environ(self) -> dict[str, str]:
        """Return this process's environment, changed so that our commands are found and find the server."""
        bins = Path(sys.executable).parent
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MEZZENGER_")}
        return kept | {
            "HOME": str(self.folder),
            "MEZZENGER_CLIENT__SEND_PORT": str(self.server.recv_port),
            "MEZZENGER_CLIENT__SUB_PORT": str(self.server.pub_port),
            "PATH": f"{bins}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }


def read_blocks(text: str) -> list[Block]:
    """Return all fenced blocks; one in ``text`` that follows a program at once is its output."""
    blocks: list[Block] = []
    end = 0
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        language, body = found.groups()
        follows = blocks and not text[end : found.start()].strip()
        if language == "text" and follows and blocks[-1].language in {"python", "sh"}:
            blocks[-1] = blocks[-1]._replace(output=body)
        else:
            blocks.append(Block(text.count("\n", 0, found.start()) + 1, language, body))
        end = found.end()
    return blocks


BLOCKS: Final = read_blocks(README)


@contextmanager
def started(command: list[str], place: Place, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command that does not end by itself; at the end of the block it and its children are gone."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command,
        cwd=place.folder,
        env=place.environ() | environ,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )
    overtime = threading.Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
    overtime.start()
    try:
        yield process
    finally:
        overtime.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finished(command: list[str], place: Place) -> str:
    """Run a command that ends by itself, with status 0; return what it printed."""
    done = subprocess.run(
        command, cwd=place.folder, env=place.environ(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def bash(script: str) -> list[str]:
    return ["bash", "-euo", "pipefail", "-c", script]


def is_shown(output: str, printed: str) -> bool:
    """Whether all lines of an output are printed, in this order; ``...`` in one stands for anything."""
    lines = iter(printed.splitlines())
    patterns = [re.escape(line).replace(r"\.\.\.", ".*") for line in output.splitlines()]
    return all(any(re.fullmatch(pattern, line) for line in lines) for pattern in patterns)


# The rules: each runs a block of its kind, and fails if that does not do what the README says.


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def run_quick_start(block: Block, place: Place) -> None:
    """The publisher and the subscriber: both run, and the one that is tested here must be one of the two."""
    programs = [other for other in BLOCKS if is_quick_start(other)]
    assert block in programs
    ports = f"send_port={place.server.recv_port}, sub_port={place.server.pub_port}"
    publisher, subscriber = (
        [sys.executable, "-c", program.text.replace(ADDRESS, f"{ADDRESS}, {ports}")] for program in programs
    )
    with started(subscriber, place) as receiving:
        wait_for(lambda: place.server.stats().names == 1)
        with started(publisher, place) as sending:
            assert read_line(receiving) in {"Hello John!\n", "Hello David!\n", "Hello Lucy!\n"}
            for process in (sending, receiving):
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)


def run_program(block: Block, place: Place) -> None:
    """A program that finds the server by the environment, ends by itself, and prints what is shown."""
    printed = finished([sys.executable, "-c", block.text], place)
    assert printed == (block.output or "")


def check_install(block: Block, place: Place) -> None:
    """The folder is one that pip can install, and it brings both commands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["build-system"]["build-backend"]
    assert project["project"]["name"] == mezzenger.__name__
    assert set(project["project"]["scripts"]) == {"mezzenger", "mezzenger-server"}
    minor = project["project"]["requires-python"].removeprefix(">=")
    assert f"Python {minor} or later" in README


def check_make(block: Block, place: Place) -> None:
    """The Makefile can make each of the targets."""
    for line in block.text.splitlines():
        finished(["make", "--dry-run", f"--directory={ROOT}", *line.split()[1:]], place)


def run_daemon(block: Block, place: Place) -> None:
    """The server listens where clients look for it, and SIGTERM ends it with status 0."""
    ports = free_ports()
    environ = {"MEZZENGER_SERVER__RECV_PORT": str(ports.send_port), "MEZZENGER_SERVER__PUB_PORT": str(ports.sub_port)}
    with started(bash(f"exec {block.text}"), place, **environ) as process:
        assert process.stderr is not None
        assert f"listening on 127.0.0.1, pub_port {ports.sub_port}," in process.stderr.readline()
        process.terminate()
        assert process.wait(PATIENCE) == 0
    defaults = Settings()
    assert (defaults.client.send_port, defaults.client.sub_port) == (
        defaults.server.recv_port,
        defaults.server.pub_port,
    )
    assert f"ports {defaults.server.pub_port} and {defaults.server.recv_port}" in README


def run_check_config(block: Block, place: Place) -> None:
    """With the README's file in place the command shows the settings as the README does."""
    (settings,) = (other for other in BLOCKS if other.language == "yaml")
    (place.folder / "mezzenger.yaml").write_text(settings.text, "utf-8")
    assert block.output is not None
    assert is_shown(block.output, finished(bash(block.text), place))


def run_pipeline(block: Block, place: Place) -> None:
    """What is appended to the log while the commands run is printed."""
    log = place.folder / "app.log"
    log.write_text("before\n", "utf-8")
    with started(bash(block.text), place) as process:
        wait_for(lambda: place.server.stats().names == 1)
        wait_for(lambda: place.server.stats().peers == 2)
        with log.open("a", encoding="utf-8") as file:
            file.write("after\n")
        while read_line(process) != "after\n":
            assert process.poll() is None


def run_script(block: Block, place: Place) -> None:
    """A script that ends by itself and prints what is shown."""
    assert is_shown(block.output or "", finished(bash(block.text), place))


def check_settings(block: Block, place: Place) -> None:
    """Settings that are accepted, and that say something new."""
    file = place.folder / "mezzenger.yaml"
    file.write_text(block.text, "utf-8")
    assert Settings.load(file, environ={}) != Settings()


def is_quick_start(block: Block) -> bool:
    return block.language == "python" and ADDRESS in block.text


def shell(pattern: str) -> Callable[[Block], object]:
    """Return whether every line of a shell block is of one kind."""
    return lambda block: block.language == "sh" and re.fullmatch(f"(?:{pattern}\n)+", block.text)


RULES: Final[tuple[tuple[Callable[[Block], object], Callable[[Block, Place], None]], ...]] = (
    (is_quick_start, run_quick_start),
    (lambda block: block.language == "python", run_program),
    (shell(r"pip install \."), check_install),
    (shell(r"make .*"), check_make),
    (shell(r"mezzenger-server"), run_daemon),
    (shell(r".*mezzenger-server .*--check-config"), run_check_config),
    (lambda block: block.language == "sh" and "tail -f app.log |" in block.text, run_pipeline),
    (shell(r"(?:echo .* \| )?mezzenger (?:pub|sub) .*[^&]"), run_script),
    (lambda block: block.language == "yaml", check_settings),
)


def judge(block: Block, place: Place) -> None:
    """Apply the first rule that knows a block; fail if none does."""
    for knows, rule in RULES:
        if knows(block):
            rule(block, place)
            return
    pytest.fail(f"README.md:{block.line}: no rule in tests/test_readme.py knows this block")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder of its own, and a server that does not take its time."""
    settings = ServerSettings(pub_port=0, recv_port=0, resend=ResendSettings(initial=0.2), drain_timeout=0.5)
    with MezzengerServer(settings) as server:
        yield Place(tmp_path, server)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.language}-{block.line}")
def test_a_block_does_what_the_readme_says(block: Block, place: Place) -> None:
    """The programs, commands and settings of the README can be copied as they stand."""
    judge(block, place)


def test_every_fence_is_read() -> None:
    """No block escapes: every fence in the file is the beginning or the end of one that was read."""
    outputs = sum(block.output is not None for block in BLOCKS)
    assert README.count("```") == 2 * (len(BLOCKS) + outputs)
    assert {block.language for block in BLOCKS} == {"python", "sh", "yaml"}


@pytest.mark.parametrize(
    "text",
    [
        "```ruby\nputs 1\n```",
        "```\nls\n```",
        "```sh\nls\n```",
        "```sh\nmake test\nls\n```",
        "```yaml\na: 1\n```\n\n```text\nout\n```",
    ],
)
def test_a_block_without_a_rule_fails(text: str, place: Place) -> None:
    """A block of a new kind makes the tests fail until somebody has thought about it."""
    with pytest.raises(pytest.fail.Exception, match="no rule"):
        judge(read_blocks(text)[-1], place)


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n```\n\n```text\n2\n```",
        "```python\nraise SystemExit(1)\n```",
        "```sh\nmake no-such-target\n```",
        "```sh\nmezzenger pub 'a|b' x\n```",
        "```sh\nmezzenger pub a --ack x\nmezzenger sub a --count 1\n```\n\n```text\ny\n```",
        "```yaml\nserver: {pub_prot: 1}\n```",
    ],
)
def test_a_block_that_is_wrong_fails(text: str, place: Place) -> None:
    """The rules can fail: a program, command or file that does not do what is shown is noticed."""
    (block,) = read_blocks(text)
    with pytest.raises((AssertionError, mezzenger.ConfigurationError)):
        judge(block, place)


@pytest.mark.parametrize("name", ["publisher", "subscriber"])
def test_the_quick_start_is_the_one_of_the_examples(name: str) -> None:
    """The two programs of the quick start are those in examples/, but for their docstrings and linter's comments."""
    source = (ROOT / "examples" / f"{name}.py").read_text("utf-8")
    docstring = ast.parse(source).body[0]
    assert docstring.end_lineno is not None
    program = "\n".join(source.splitlines()[docstring.end_lineno :]).strip() + "\n"
    assert re.sub(r"  # noqa: .*", "", program) in {block.text for block in BLOCKS if is_quick_start(block)}


def test_the_errors_are_public() -> None:
    """Each error that the README names can be imported from the package."""
    (section,) = re.findall(r"^## Errors\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
    names = re.findall(r"`([A-Z]\w+)`", section)
    assert len(names) > 5
    assert all(issubclass(getattr(mezzenger, name), mezzenger.MezzengerError) for name in names)


def test_the_readme_is_short() -> None:
    """Somebody who has ten minutes can read all of it."""
    assert README.count("\n") <= MAX_LINES
