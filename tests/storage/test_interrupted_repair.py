"""A repair that is cut off, wherever: the server refuses the file, and a second repair loses nothing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from mezzenger.errors import StorageError
from mezzenger.storage.check import check
from mezzenger.storage.files import Files
from mezzenger.storage.repair import repair
from mezzenger.storage.wal import place
from tests.storage.damage import read_files, write_files
from tests.storage.driver import know, reopened, sqlite, store

LAST_STEPS = 12
"""From before the new store is whole on."""

NAME = "store[1].db"
"""Some would take this for a pattern."""

P = ParamSpec("P")
R = TypeVar("R")


class Killed(BaseException):
    """Ends a repair as a signal would that nobody can catch."""


class Steps:
    """Counts what is done to files, and lets nothing be done from a step on."""

    def __init__(self, patch: pytest.MonkeyPatch, end: int) -> None:
        self.done = 0
        self._end = end
        for owner, name in ((os, "link"), (os, "fsync"), (Path, "unlink"), (Path, "replace")):
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, step: Callable[P, R]) -> Callable[P, R]:
        def counted(*arguments: P.args, **named: P.kwargs) -> R:
            if self.done == self._end:
                raise Killed
            self.done += 1
            return step(*arguments, **named)

        return counted


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """Those of a server that was killed; the midst of the log is damaged."""
    with sqlite(tmp_path / "made.db") as driver:
        driver.commit(know(), *(store(number, payloads=[b"x" * 3000]) for number in range(1, 20)))
        for number in range(20, 40):
            driver.commit(store(number, payloads=[b"x" * 3000]))
        files = read_files(tmp_path / "made.db")
    salts = place(4096, 20) + 8
    return files | {"-wal": files["-wal"][:salts] + bytes(8) + files["-wal"][salts + 8 :]}


def numbers(file: Path) -> list[int]:
    with sqlite(file) as driver:
        return driver.numbers(size=2**30)


def no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("form", ["usual", "no seal", "no file", "no links"])
def test_a_repair_may_be_interrupted(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """At any step; with the log alone, too, and where a file has one name only."""
    if form in {"no seal", "no file"}:
        del files[".seal"]
    if form == "no file":
        del files[""]
    if form == "no links":
        monkeypatch.setattr(os, "link", no_links)
    file = tmp_path / "whole" / NAME
    file.parent.mkdir()
    write_files(file, files)
    repair(file)
    rescued = numbers(file)
    assert len(rescued) > 35
    step, is_done = 0, False
    while not is_done:
        file = tmp_path / str(step) / NAME
        file.parent.mkdir()
        write_files(file, files)
        is_done = ended_after(step, file)
        if not check(file).is_sound:
            with pytest.raises(StorageError, match="is damaged"):
                reopened(file)
            assert repair(file).kept_as == file.with_name(f"{NAME}.damaged"), step
        assert check(file).is_sound, step
        assert numbers(file) == rescued, step
        assert read_files(file.with_name(f"{NAME}.damaged")) == {"": b""} | files, step
        assert not any(path.exists() for path in Files.of(file).repaired()), step
        step += 1
    assert step > 12


def test_what_an_interrupted_repair_has_made_may_be_damaged(tmp_path: Path, files: dict[str, bytes]) -> None:
    """As long as what it was made of is in its place, it is made again; later, nothing is lost in silence."""
    refused = 0
    for step in range(steps_to_the_end(tmp_path / "whole", files) - LAST_STEPS, 40):
        file = tmp_path / str(step) / NAME
        file.parent.mkdir()
        write_files(file, files)
        if ended_after(step, file):
            break
        new = Files.of(file).repaired()
        if not new.seal.exists():
            continue
        new.seal.write_bytes(b"")
        if not new.database.exists() or not Files.of(file).wal.exists():
            refused += 1
            with pytest.raises(StorageError, match="what an interrupted repair has made is damaged"):
                repair(file)
            assert read_files(file.with_name(f"{NAME}.damaged")) == files
            for path in new:
                path.unlink(missing_ok=True)
            write_files(file, files)
        repair(file)
        assert len(numbers(file)) > 35, step
    assert refused


def test_a_repair_of_other_files_was_interrupted(tmp_path: Path, files: dict[str, bytes]) -> None:
    """What was put in their place since then is kept as well, under another name."""
    file = tmp_path / NAME
    write_files(file, files)
    assert not ended_after(steps_to_the_end(tmp_path / "whole", files) - 4, file)
    others = files | {"": files[""][:-4096]}
    file.unlink()  # which has another name by now
    write_files(file, others)
    assert repair(file).kept_as == file.with_name(f"{NAME}.damaged-2")
    assert read_files(file.with_name(f"{NAME}.damaged")) == files
    assert read_files(file.with_name(f"{NAME}.damaged-2")) == others


def steps_to_the_end(folder: Path, files: dict[str, bytes]) -> int:
    """Return how many steps the whole repair has."""
    folder.mkdir()
    write_files(folder / NAME, files)
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch, -1)
        repair(folder / NAME)
    return steps.done


def ended_after(steps: int, file: Path) -> bool:
    """Repair a file, in so many steps at most; return whether they were enough."""
    with pytest.MonkeyPatch.context() as patch:
        Steps(patch, steps)
        try:
            repair(file)
        except Killed:
            return False
    return True
