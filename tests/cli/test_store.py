"""``mezzenger store``: what it prints, and its exit codes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import SERVER, TOOL, Commands, read_until, terminal
from tests.storage.driver import know, sqlite, store

INTERRUPTED = """
import os, signal, sys
from mezzenger.cli.tool import main
from mezzenger.storage import check

tables = check._of_tables

def interrupted(database):
    print(os.listdir(os.environ["TMPDIR"]), flush=True)
    os.kill(os.getpid(), number)
    yield from tables(database)

check._of_tables = interrupted
number = int(sys.argv.pop())
signal.signal(number, signal.SIG_DFL)  # whatever has started the tests may have it ignored
sys.argv = ["mezzenger", "store", "check", sys.argv[1]]
main()
"""


@pytest.fixture
def file(commands: Commands) -> Path:
    """A sound file with a few messages."""
    file = commands.folder / "store.db"
    with sqlite(file) as driver:
        driver.commit(know(), *(store(number, "jobs", [b"x" * 3000]) for number in range(1, 30)))
    return file


@pytest.fixture
def damaged(file: Path) -> Path:
    """The same with another byte in the midst of a frame."""
    content = bytearray(file.read_bytes())
    content[content.index(b"x" * 500) + 250] ^= 1
    file.write_bytes(content)
    return file


def test_a_sound_file(commands: Commands, file: Path) -> None:
    """Both commands say so in one line, and end with 0."""
    checked, repaired = (commands.run(TOOL, "store", word, file) for word in ("check", "repair"))
    assert (checked.returncode, checked.stdout) == (
        0,
        f"{file}: sound: 29 waiting, 0 delayed, 0 dead letters, 0 last messages\n",
    )
    assert (repaired.returncode, repaired.stdout) == (0, f"{file}: sound; nothing was changed\n")
    assert checked.stderr == repaired.stderr == ""


def test_damage_is_reported_and_repaired(commands: Commands, damaged: Path) -> None:
    """``check`` ends with 4 and names the command that helps; after that the file is sound."""
    checked = commands.run(TOOL, "store", "check", damaged)
    assert checked.returncode == 4
    assert "problem: of the file: not as written" in checked.stdout
    assert f"mezzenger store repair {damaged}" in checked.stdout
    repaired = commands.run(TOOL, "store", "repair", damaged)
    assert repaired.returncode == 0, repaired.stderr
    assert "what: waiting, name: jobs, rescued: 28, lost: 1, numbers of the lost: " in repaired.stdout
    assert f"the damaged file is kept as {damaged}.damaged" in repaired.stdout
    assert commands.run(TOOL, "store", "check", damaged).returncode == 0


def test_json(commands: Commands, damaged: Path) -> None:
    """For programs each command prints one object."""
    checked = json.loads(commands.run(TOOL, "store", "check", damaged, "--json").stdout)
    assert (checked["sound"], checked["sealed"]) == (False, True)
    assert checked["damage"][0]["what"].startswith("page ")
    repaired = json.loads(commands.run(TOOL, "store", "repair", damaged, "--json").stdout)
    assert repaired["names"][0] | {"lost": []} == {"table": "message", "name": "jobs", "rescued": 28, "lost": []}
    assert len(repaired["names"][0]["lost"]) == 1
    assert repaired["kept_as"] == f"{damaged}.damaged"
    assert json.loads(commands.run(TOOL, "store", "repair", damaged, "--json").stdout)["changed"] is False


@pytest.mark.parametrize("word", ["check", "repair"])
def test_a_file_that_cannot_be_looked_for(commands: Commands, word: str) -> None:
    """Whatever the system says is told in one line, such as that a folder is not ours; root needs a longer name."""
    file = commands.folder / ("x" * 300)
    result = commands.run(TOOL, "store", word, file)
    assert (result.returncode, result.stdout) == (4, "")
    assert result.stderr == f"mezzenger: error: {file}: cannot be read: File name too long\n"


@pytest.mark.parametrize("word", ["check", "repair"])
def test_a_name_that_is_no_text(commands: Commands, file: Path, word: str) -> None:
    """The bytes that stdout cannot write are escaped."""
    odd = file.rename(file.with_name(os.fsdecode(b"caf\xe9.db")))
    Path(f"{file}.seal").rename(f"{odd}.seal")
    result = commands.run(TOOL, "store", word, odd, environ={"PYTHONIOENCODING": "utf-8:strict"})
    assert (result.returncode, result.stderr) == (0, "")
    assert r"caf\udce9.db: sound" in result.stdout


def test_on_a_terminal(commands: Commands, damaged: Path) -> None:
    """People get a table."""
    with terminal() as (ours, theirs), commands.started(TOOL, "store", "check", damaged, stdout=theirs) as process:
        shown = read_until(ours, "┘".encode()).decode()
        assert process.wait(20) == 4
    assert "what that means" in shown


@pytest.mark.parametrize("word", ["check", "repair"])
def test_a_file_in_use(commands: Commands, file: Path, word: str) -> None:
    """While a server has it, its process id is named, and nothing is done."""
    with sqlite(file):
        result = commands.run(TOOL, "store", word, file)
    assert result.returncode == 4
    assert f"{file}: is in use by the server with process id {os.getpid()}" in result.stderr


@pytest.mark.parametrize("word", ["check", "repair"])
def test_no_such_file(commands: Commands, word: str) -> None:
    """A slip of the pen is not a damaged file; no lock is left behind."""
    result = commands.run(TOOL, "store", word, "none.db")
    assert (result.returncode, result.stderr) == (2, "mezzenger: error: none.db: no such file\n")
    assert list(commands.folder.iterdir()) == []


def test_what_cannot_be_repaired(commands: Commands, file: Path) -> None:
    """An empty file ends with 4, and stays as it is."""
    file.write_bytes(b"")
    result = commands.run(TOOL, "store", "repair", file)
    assert result.returncode == 4
    assert "nothing to be rescued" in result.stderr


def test_a_server_refuses_a_damaged_file(commands: Commands, damaged: Path) -> None:
    """One line says what is damaged and what to do, and the exit code is 4."""
    before = damaged.read_bytes()
    result = commands.run(SERVER, "--pub-port", 0, "--recv-port", 0, "--persist-file", damaged)
    assert result.returncode == 4
    (line,) = [line for line in result.stderr.splitlines() if "error" in line]
    assert re.search(r"is damaged: page \d+ of the file: not as written", line)
    assert f"'mezzenger store repair {damaged}'" in line
    assert damaged.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_no_copy(file: Path, tmp_path: Path, number: signal.Signals) -> None:
    """What ``check`` has made to look at a log is removed before the command ends."""
    with sqlite(file) as driver:
        driver.commit(store(30, "jobs"))
        for path in (file, *file.parent.glob("store.db?*")):
            shutil.copy(path, tmp_path / path.name.replace("store", "killed"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "killed.db"), str(int(number))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    assert re.fullmatch(r"\['mezzenger-check-\w+'\]\n", result.stdout), result.stderr
    assert (result.returncode, result.stderr) == (128 + number, "")
    assert list(temporary.iterdir()) == []
