"""A type checker finds what is wrong with a program, says it well, and has nothing against a good one."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
PROGRAMS: Final = sorted((ROOT / "tests" / "typing" / "programs").glob("*.py"))

Complaints = dict[int, list[str]]
"""Of one program, by line."""


@pytest.fixture(scope="module")
def complaints() -> dict[str, Complaints]:
    """What mypy says of all programs in one run, by the program's name."""
    command = [sys.executable, "-m", "mypy", "--output=json", *map(str, PROGRAMS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr or "mypy has found nothing"
    found: dict[str, Complaints] = {}
    for line in done.stdout.splitlines():
        complaint = json.loads(line)
        if complaint["severity"] == "error":
            lines = found.setdefault(Path(complaint["file"]).name, {})
            lines.setdefault(complaint["line"], []).append(complaint["message"])
    return found


def expected_of(program: Path) -> dict[int, str]:
    """Return what a program's comments say that mypy must say of their lines."""
    lines = enumerate(program.read_text("utf-8").splitlines(), 1)
    return {number: found[1] for number, line in lines if (found := re.search(r"# E: (.+)", line))}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_program(program: Path, complaints: dict[str, Complaints]) -> None:
    """Each line that is marked is complained of in these words; no other line is."""
    found, expected = complaints.get(program.name, {}), expected_of(program)
    assert {number: messages for number, messages in found.items() if number not in expected} == {}
    unsaid = {number: text for number, text in expected.items() if text not in " and ".join(found.get(number, []))}
    assert {number: (text, found.get(number)) for number, text in unsaid.items()} == {}


def test_there_are_wrong_programs() -> None:
    """The test above would notice if mypy accepted everything."""
    assert sum(len(expected_of(program)) for program in PROGRAMS) > 20
