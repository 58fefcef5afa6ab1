"""What ``repair`` rescues, what it keeps, and what it leaves alone."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from mezzenger.errors import StorageError
from mezzenger.storage.check import check
from mezzenger.storage.evidence import gather
from mezzenger.storage.files import Files, reading
from mezzenger.storage.pages import Image
from mezzenger.storage.repair import repair
from mezzenger.storage.verify import verify
from tests.storage.damage import (
    FORMS,
    TABLES,
    Harm,
    Sample,
    contents_of,
    flips,
    flips_before_frames,
    judge_all,
    make_sample,
    read_files,
    truncations,
    write_files,
)
from tests.storage.driver import know, reopened, sqlite, store

FLIPS = 20
STEP = 60_013


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """The same store in each form."""
    return {form: make_sample(tmp_path_factory.mktemp("made"), 1000, form) for form in FORMS}


@pytest.fixture
def sample(samples: dict[str, Sample]) -> Sample:
    """As a server leaves it that was stopped."""
    return samples["stopped"]


@pytest.fixture
def file(sample: Sample, tmp_path: Path) -> Path:
    """A damaged file: some bytes in its midst are others."""
    file = tmp_path / "store.db"
    content = bytearray(sample.files[""])
    content[100_000:100_003] = b"???"
    write_files(file, sample.files | {"": bytes(content)})
    return file


@pytest.mark.parametrize("form", ["stopped", "killed"])
def test_flips_are_noticed_and_lose_nothing_intact(samples: dict[str, Sample], form: str) -> None:
    """Any byte changed in any file: nothing is silent, and every frame whose bytes are intact is there once."""
    result = judge_all(samples[form], flips(samples[form], FLIPS, 7))
    assert result.problems == []
    assert result.counts["silent"] == result.counts["intact frames lost"] == result.counts["foreign frames"] == 0
    assert form != "stopped" or result.counts["reported"] == FLIPS


@pytest.mark.parametrize("form", ["stopped", "killed"])
def test_truncations_are_noticed_and_lose_nothing_intact(samples: dict[str, Sample], form: str) -> None:
    """Any file cut off anywhere: the same."""
    result = judge_all(samples[form], truncations(samples[form], STEP))
    assert result.problems == []
    assert result.counts["silent"] == result.counts["intact frames lost"] == 0


def test_without_a_seal_frames_are_rescued_as_well(samples: dict[str, Sample]) -> None:
    """A damage that is found by other means loses nothing that is intact."""
    result = judge_all(samples["without a seal"], flips(samples["without a seal"], FLIPS, 3))
    assert result.counts["intact frames lost"] == result.counts["intact frames twice"] == 0


@pytest.mark.parametrize("form", FORMS)
def test_flips_before_frames_lose_nothing_intact(samples: dict[str, Sample], form: str) -> None:
    """Whatever of a row's head is changed, its frame is there, in its queue or in another that it may be for."""
    result = judge_all(samples[form], flips_before_frames(samples[form], FLIPS, 5))
    assert result.problems == []
    assert result.counts["intact frames lost"] == result.counts["foreign frames"] == 0


@pytest.mark.parametrize(
    ("form", "ending", "harms"),
    [
        # A row that says it is larger, one that says it has another number, and one whose queue nobody knows.
        ("stopped", "", [(25_639, 1), (25_644, 8), (105_506, 70), (278_252, 77), (637_483, 1), (638_004, 1)]),
        # It ends in the midst of a group's name.
        ("stopped", "", [(12_216, 0)]),
        # Here the number is that of another message, or attempts are fewer than none; no page is known to be damaged.
        ("without a seal", "", [(320_722, 11), (376_938, 2), (383_090, 8), (443_569, 1), (106_014, 128)]),
        # It is the index that is damaged: it has a number twice, or one that never was.
        ("without a seal", "", [(18_092, 16), (18_091, 64)]),
        # The checksum fits as well if it is not this byte, but the number of the page, that is damaged.
        ("killed", "-wal", [(660_115, 16), (1_117_003, 64), (1_706_043, 32), (2_073_659, 16)]),
    ],
)
def test_what_was_lost_once(
    samples: dict[str, Sample], form: str, ending: str, harms: Sequence[tuple[int, int]]
) -> None:
    """Each of these has cost a message whose frame was intact, or has left in the repaired store what never was."""
    result = judge_all(samples[form], [Harm(ending, at, bits) for at, bits in harms])
    assert result.problems == []


def test_the_indexes_tell_what_there_was(sample: Sample, tmp_path: Path) -> None:
    """Each table has one, which names all rows, and, but for what is delayed, their queues."""
    write_files(tmp_path / "store.db", sample.files)
    files = Files.of(tmp_path / "store.db")
    with reading(files.database) as database, reading(files.wal) as logged, reading(files.seal) as sealed:
        assert database is not None
        evidence = gather(Image(database, logged, sealed, verify(files)))
    for table in (*TABLES, "retained"):
        rows = {row[0]: row[1] for row in sample.contents[table]}
        assert rows.keys() == evidence.live[table].keys()
        assert table == "delayed" or rows == evidence.live[table]


@pytest.mark.parametrize("page", [1, 2, 3, 4, 5, 6])
def test_a_root_page_of_zeros(sample: Sample, tmp_path: Path, page: int) -> None:
    """Whichever tree has lost its beginning, each intact frame is there once."""
    file = tmp_path / "store.db"
    content = bytearray(sample.files[""])
    content[(page - 1) * 4096 : page * 4096] = bytes(4096)
    write_files(file, sample.files | {"": bytes(content)})
    repair(file)
    assert check(file).is_sound
    rescued = contents_of(file, tmp_path / "copy")
    for table in ("message", "delayed", "dead"):
        numbers = {row[0] for row in sample.contents[table]}
        assert numbers <= {row[0] for row in rescued[table]}, table


def test_columns_are_kept(sample: Sample, file: Path, tmp_path: Path) -> None:
    """What is in sound pages keeps attempts, indexes, times, errors, numbers, names and marks."""
    repair(file)
    rescued = contents_of(file, tmp_path / "copy")
    names = {row[0]: row[1] for row in sample.contents["name"]}
    new_names = {row[0]: row[1] for row in rescued["name"]}
    for table in ("message", "delayed", "dead"):
        before = {row[0]: (names[row[1]], *row[2:]) for row in sample.contents[table]}
        after = {row[0]: (new_names[row[1]], *row[2:]) for row in rescued[table]}
        differing = [number for number in before if after.get(number) != before[number]]
        assert len(differing) < 20, table
        assert not after.keys() - before.keys()
    for table in ("publisher", "refused", "last_number"):
        assert rescued[table] == sample.contents[table]


def test_the_damaged_files_are_kept(sample: Sample, file: Path) -> None:
    """Byte for byte, under a name that was free; a second repair takes another one."""
    before = read_files(file)
    assert repair(file).kept_as == file.with_name("store.db.damaged")
    assert read_files(file.with_name("store.db.damaged")) == before
    write_files(file, before)
    assert repair(file).kept_as == file.with_name("store.db.damaged-2")
    assert read_files(file.with_name("store.db.damaged")) == before
    assert reopened(file).last_number == sample.contents["last_number"][0][0]


def test_a_sound_file_is_left_alone(sample: Sample, tmp_path: Path) -> None:
    """Nothing is written, renamed or made."""
    file = tmp_path / "store.db"
    write_files(file, sample.files)
    assert repair(file).kept_as is None
    assert read_files(file) == sample.files
    assert {path.name for path in tmp_path.iterdir()} == {"store.db", "store.db.seal"}


def test_what_is_lost_is_named(sample: Sample, file: Path) -> None:
    """The frames whose bytes are not intact, by their numbers and names."""
    hit = {
        (number, known.queue)
        for number, known in sample.frames.items()
        if any(extent.start < 100_003 and extent.end > 100_000 for extent in known.extents)
    }
    told = {(number, row.name) for row in repair(file).names for number in row.lost}
    assert told == hit


@pytest.mark.parametrize("left", [{}, {"": b""}])
@pytest.mark.parametrize("with_seal", [True, False])
def test_an_empty_or_missing_file_is_rescued_from_its_log(
    tmp_path: Path, left: dict[str, bytes], with_seal: bool
) -> None:
    """A server that was killed may have all in it."""
    with sqlite(tmp_path / "made.db") as driver:
        driver.commit(know(), *(store(number, payloads=[bytes(1000)]) for number in range(1, 40)))
        files = read_files(tmp_path / "made.db")
    del files[""]
    if not with_seal:
        del files[".seal"]
    file = tmp_path / "store.db"
    write_files(file, files | left)
    for path in tmp_path.glob("store.db*"):
        path.chmod(0o600)
    assert [finding.meaning for finding in check(file).findings] == ["what the log does not have of it is lost"]
    outcome = repair(file)
    assert [(row.frames, row.lost) for row in outcome.names] == [(39, [])]
    assert outcome.uncertain == 0
    assert read_files(file.with_name("store.db.damaged")) == {"": b""} | files
    assert file.stat().st_mode & 0o777 == 0o600
    with sqlite(file) as driver:
        assert driver.numbers() == list(range(1, 40))


def test_of_a_missing_file_there_is_what_the_log_has(samples: dict[str, Sample], tmp_path: Path) -> None:
    """Of every kind; the rest, which no later commit has changed, was in the file alone."""
    file = tmp_path / "store.db"
    write_files(file, samples["killed"].files)
    file.unlink()
    repair(file)
    assert check(file).is_sound
    rescued = {row[0] for table in TABLES for row in contents_of(file, tmp_path / "copy")[table]}
    assert samples["killed"].frames.keys() <= rescued
    with sqlite(tmp_path / "made.db") as driver:
        driver.commit(know(), *(store(number, payloads=[bytes(1000)]) for number in range(1, 40)))
        driver.storage._seal._checkpoint(driver.storage._database)  # type: ignore[attr-defined]
        driver.commit(*(store(number, payloads=[bytes(1000)]) for number in range(40, 60)))
        write_files(file, read_files(tmp_path / "made.db") | {"": b""})
    repair(file)
    with sqlite(file) as driver:
        assert {*range(40, 60)} <= {*driver.numbers()} < {*range(1, 60)}


@pytest.mark.parametrize("left", [{"": b""}, {"": b"", "-wal": b"x" * 10_000}, {"-wal": bytes(10_000)}])
def test_an_empty_file_cannot_be_repaired(sample: Sample, tmp_path: Path, left: dict[str, bytes]) -> None:
    """If there is nothing in its log; its seal tells that there was."""
    file = tmp_path / "store.db"
    write_files(file, {".seal": sample.files[".seal"]} | left)
    with pytest.raises(StorageError, match=r"nothing to be rescued|nothing in it looks like a store"):
        repair(file)
    with pytest.raises(StorageError, match="is damaged"):
        reopened(file)


@pytest.mark.parametrize("content", [b"These are my notes." * 1000, bytes(20_000)])
def test_what_is_no_store_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """A slip of the pen does not put an empty store in the place of something else."""
    file = tmp_path / "notes"
    file.write_bytes(content)
    with pytest.raises(StorageError, match="nothing in it looks like a store"):
        repair(file)
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize("pragma", ["application_id = 7", "user_version = 99"])
def test_another_programs_database_is_left_alone(sample: Sample, tmp_path: Path, pragma: str) -> None:
    """Nor one of a version that we do not know."""
    file = tmp_path / "store.db"
    write_files(file, sample.files)
    with closing(sqlite3.connect(file)) as database:
        database.execute(f"PRAGMA {pragma}")
    Files.of(file).seal.unlink()
    before = read_files(file)
    with pytest.raises(StorageError, match=r"another program|schema version 99"):
        repair(file)
    assert read_files(file) == before
