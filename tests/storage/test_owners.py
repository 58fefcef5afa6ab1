"""Whom the files belong to that a store and its repair make: whoever could use the store can use it afterwards."""

import os
from pathlib import Path

import pytest

from mezzenger.storage.check import check
from mezzenger.storage.files import Files, create
from mezzenger.storage.lock import FileLock
from mezzenger.storage.repair import repair
from tests.storage.damage import read_files, write_files
from tests.storage.driver import know, reopened, sqlite, store

NOBODY = 65534

as_root = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root may give files away")
with_modes = pytest.mark.skipif(os.name == "nt", reason="there are no such rights on Windows")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A damaged file, as a killed server leaves it."""
    file = tmp_path / "store.db"
    with sqlite(tmp_path / "made.db") as driver:
        driver.commit(know(), *(store(number, payloads=[b"x" * 1000]) for number in range(1, 40)))
        files = read_files(tmp_path / "made.db")
    write_files(file, files | {"": b""})
    for path in Files.of(file):
        path.chmod(0o600)
    return file


def of(*paths: Path) -> set[tuple[int, int, int]]:
    """Return whom files belong to, and their rights."""
    return {(known.st_uid, known.st_gid, known.st_mode & 0o777) for known in map(os.stat, paths)}


@as_root
@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("is_there", [True, False])
def test_root_repairs_for_the_owner(
    file: Path, has_links: bool, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that runs as another user can open what comes of it, and its owner what was kept."""
    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    if not is_there:
        file.unlink()
    for path in Files.of(file):
        if path.exists():
            os.chown(path, NOBODY, NOBODY)
    lock = FileLock(file)
    kept_as = repair(file).kept_as
    lock.release()
    assert kept_as is not None
    assert of(file, Files.of(file).seal, *Files.of(kept_as)) == {(NOBODY, NOBODY, 0o600)}
    assert check(file).is_sound


@as_root
@pytest.mark.parametrize("left", ["file", "folder"])
def test_root_makes_the_lock_for_the_owner(file: Path, left: str) -> None:
    """Of the file, or, if that is gone, of the folder."""
    os.chown(file if left == "file" else file.parent, NOBODY, NOBODY)
    if left == "folder":
        file.unlink()
    FileLock(file).release()
    assert of(file.with_name("store.db.lock")) == {(NOBODY, NOBODY, 0o600)}


@with_modes
def test_a_group_may_go_on(file: Path) -> None:
    """Rights of a group outlive a repair, those of everybody do not."""
    file.chmod(0o664)
    lock = FileLock(file)
    repair(file)
    lock.release()
    assert of(file, Files.of(file).seal, file.with_name("store.db.lock")) == {(os.geteuid(), file.stat().st_gid, 0o660)}
    assert reopened(file).last_number == 39


@with_modes
def test_no_group_is_let_in_that_was_not(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If we may not give a file to the group that may read the other one."""
    file.chmod(0o660)

    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", forbidden)
    os.close(create(file.with_name("new.db"), file))
    assert of(file.with_name("new.db")) == {(os.geteuid(), file.stat().st_gid, 0o600)}


def no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")
