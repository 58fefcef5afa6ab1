"""Mutants of check and repair."""

from typing import Final

from tests.mutants.mutant import Mutant

_REPAIR: Final = "storage/test_repair.py"
_ONCE: Final = (f"{_REPAIR}::test_what_was_lost_once",)
_INTERRUPTED: Final = ("storage/test_interrupted_repair.py::test_a_repair_may_be_interrupted",)

MUTANTS: Final = (
    Mutant(
        "indexes-not-understood",
        "P2",
        "a repair does not know which messages there were",
        "storage/evidence.py",
        "            case [key, int(number)] | [key, int(), int(number)] if",
        "            case [key, int(number)] if",
        (f"{_REPAIR}::test_the_indexes_tell_what_there_was",),
    ),
    Mutant(
        "only-one-copy-rescued",
        "P2",
        "of a message with copies for groups, the one whose row is damaged is lost",
        "storage/rescue.py",
        "queue not in taken and _is_in(queue, name)), None)",
        "not taken and _is_in(queue, name)), None)",
        _ONCE,
    ),
    Mutant(
        "former-frames-first",
        "P2",
        "what a damaged page had before takes the place of what it has",
        "storage/rescue.py",
        "in sorted(found, key=itemgetter(0)):",
        "in sorted(found, key=lambda one: -one[0]):",
        _ONCE,
    ),
    Mutant(
        "page-numbers-guessed",
        "P2",
        "a damaged page of the log is taken for another page",
        "storage/pages.py",
        "(mended is not None and mended[:2] == frame[:2])",
        "(mended is not None and (page := mended.page) > 0)",
        _ONCE,
    ),
    Mutant(
        "numbers-believed",
        "P2",
        "a row whose number is damaged takes the place of another one",
        "storage/rescue.py",
        '        return indexed is None or indexed == row.values.get("name")\n',
        "        return True\n",
        _ONCE,
    ),
    Mutant(
        "interrupted-repair-served",
        "P2",
        "a server takes what an interrupted repair has left, without the log",
        "storage/start.py",
        "unfinished_repair(files) + verified.findings",
        "verified.findings",
        _INTERRUPTED,
    ),
    Mutant(
        "interrupted-repair-begun-anew",
        "P2",
        "a repair that is run again does not know of the log that the first one had read",
        "storage/repair.py",
        "        if _is_made(files, new):\n",
        "        if False:\n",
        _INTERRUPTED,
    ),
    Mutant(
        "log-alone-not-read",
        "P2",
        "if the file is gone, nothing is rescued from its log",
        "storage/repair.py",
        "not (size_of(files.database) or size_of(files.wal))",
        "not size_of(files.database)",
        (f"{_REPAIR}::test_an_empty_or_missing_file_is_rescued_from_its_log",),
    ),
)
