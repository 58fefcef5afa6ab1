"""That the mutants of ``make mutants`` are still mutants of this code, and that they are tried as they should be."""

import ast
import json
from pathlib import Path
from typing import Final

import pytest

from tests.mutants import MUTANTS
from tests.mutants.__main__ import main, try_all
from tests.mutants.mutant import DoesNotApplyError, Mutant
from tests.mutants.workshop import ROOT, Run

PROMISES: Final = {*(f"P{number}" for number in range(1, 10)), "order", "requests", "groups", "kit"}

HARMLESS: Final = Mutant(
    "harmless",
    "P1",
    "nothing",
    "protocol/tickets.py",
    "class Tickets:",
    "# Nobody can notice this.\nclass Tickets:",
    ("protocol/test_tickets.py",),
)
GONE: Final = HARMLESS._replace(name="gone", before="text that is not there")


def names_in(file: Path) -> set[str]:
    """Return the tests and classes of tests of a file, and the tests of these classes, as node ids have them."""
    found: set[str] = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            functions = [part.name for part in node.body if isinstance(part, ast.FunctionDef)]
            found |= {node.name, *(f"{node.name}::{function}" for function in functions)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def test_there_are_enough() -> None:
    """Of each promise some, and each by a name of its own."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30
    assert {mutant.promise for mutant in MUTANTS} == PROMISES


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_applies(mutant: Mutant) -> None:
    """Its text is in the code, once; what becomes of it can be compiled; and its tests exist."""
    text = mutant.path(ROOT).read_text("utf-8")
    mutated = mutant.mutated(text)
    assert mutated != text
    compile(mutated, mutant.file, "exec")
    assert mutant.breaks
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert (ROOT / "tests" / file).is_file()
        assert not name or name in names_in(ROOT / "tests" / file)


@pytest.mark.parametrize("before", ["not there", "import"])
def test_text_that_is_not_there_once_is_an_error(before: str) -> None:
    """A mutant that no longer applies must not pass for one that was caught."""
    with pytest.raises(DoesNotApplyError, match=r"harmless: .* occurs \d+ times in mezzenger/protocol/tickets.py"):
        HARMLESS._replace(before=before).mutated("import a, b\nimport c\n")


def test_one_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    """By a test that is told, without a trace in this tree."""
    assert main(["window-off-by-one", "--jobs", "1", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["outcome"], result["promise"]) == ("caught", "P8")
    assert result["by"].startswith("protocol/test_session_publishing.py::test_")


def test_one_that_survives_and_one_that_does_not_apply(capsys: pytest.CaptureFixture[str]) -> None:
    """Each of them is told, and makes the run fail."""
    assert try_all([HARMLESS, GONE], jobs=1, as_json=False) == 1
    _, survived, broken, summary = capsys.readouterr().out.splitlines()
    assert survived == "harmless  P1     SURVIVED protocol/test_tickets.py: nothing"
    assert broken.startswith("gone      P1     BROKEN: gone: 'text that is not there' occurs 0 times")
    assert summary.endswith(": 1 survived, 1 broken")


def test_why_tests_fail_without_a_mutant_is_told() -> None:
    """Whether it is the code or a slow machine, for example."""
    said = "F\nFAILED tests/a/test_b.py::test_c - Failed: Timeout (>120.0s)\nFAILED tests/d.py::test_e\n"
    assert Run(1, said).what_is_wrong == "a/test_b.py::test_c - Failed: Timeout (>120.0s)"
    assert Run(1, "FAILED tests/d.py::test_e\n").what_is_wrong == "d.py::test_e"
    assert Run(None, "its tests take longer than 300 s").what_is_wrong == "its tests take longer than 300 s"


def test_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused before anything is run."""
    with pytest.raises(SystemExit):
        main(["no-such-mutant"])
    assert "there is no mutant no-such-mutant" in capsys.readouterr().err
