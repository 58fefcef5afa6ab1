"""Damages a persist file in every way, and sees whether that is noticed and what is rescued.

By hand: ``python -m tests.storage.damage --flips 10000``. In two forms: as a server leaves the file that was stopped,
and as one leaves it that was killed, with a log. Each file of the store is damaged by itself.
"""

import argparse
import logging
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from mezzenger.broker.effects import AddGroup, Attempt, Change, DropGroup, Refusal, Retain, Store
from mezzenger.errors import StorageError
from mezzenger.patterns import matches
from mezzenger.protocol import wire
from mezzenger.queues import split_queue
from mezzenger.storage import wal
from mezzenger.storage.check import check
from mezzenger.storage.files import Files, reading
from mezzenger.storage.pages import Image
from mezzenger.storage.records import Cell, fresh_roots, serials_of, values_of
from mezzenger.storage.repair import repair
from mezzenger.storage.sqlite import SqliteStorage
from mezzenger.storage.trees import Walk, walk
from mezzenger.storage.verify import verify
from mezzenger.storage.wal import FRAME, HEADER, place
from tests.storage.driver import Driver, bury, know, settle, sqlite, store

ENDINGS = ("", "-wal", ".seal")
FORMS = ("stopped", "killed", "without a seal")
TABLES = ("message", "delayed", "dead")
GROUPS = ("name.1|billing", "name.2|billing", "name.*|audit", ">|a group without anything")
DROPPED = "name.3|dropped"

_ROW_HEAD = 25
"""Bytes before a frame in which most of a row's head is."""

Contents = dict[str, list[tuple[Any, ...]]]


class Extent(NamedTuple):
    """Bytes of a frame, in one of the files."""

    ending: str
    start: int
    end: int


class Known(NamedTuple):
    """A frame that is in the store, in one of its queues."""

    table: str
    queue: str
    frame: bytes
    extents: list[Extent]


@dataclass
class Sample:
    """A sound store, and all that is known of it."""

    files: dict[str, bytes]
    contents: Contents
    frames: dict[int, Known]
    last: dict[str, Known]
    """The last messages that are kept, by name."""
    settled: set[bytes]


class Harm(NamedTuple):
    """One damage: a file cut to a length, or one of its bytes changed."""

    ending: str
    at: int
    bits: int = 0
    """What the byte at that place is changed by; 0 if the file ends there."""

    def apply(self, content: bytes) -> bytes:
        if not self.bits:
            return content[: self.at]
        return content[: self.at] + bytes([content[self.at] ^ self.bits]) + content[self.at + 1 :]

    def spares(self, known: Known) -> bool:
        """Whether all bytes of a frame are as they were."""
        return not any(
            extent.ending == self.ending
            and (extent.start <= self.at < extent.end if self.bits else self.at < extent.end)
            for extent in known.extents
        )


@dataclass
class Result:
    """What became of some damages."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        self.counts += other.counts
        self.problems += other.problems


# The sample.


def fill(driver: Driver, messages: int) -> set[bytes]:
    """Store so many messages that stay, and others that are settled; return the frames of the latter."""
    chance = random.Random(1)
    settled: set[bytes] = set()
    later: list[Change] = []
    number = left = 0
    driver.commit(*(know(client) for client in range(1, 30)), *map(AddGroup, (*GROUPS, DROPPED)))
    while left < messages:
        changes: list[Change] = []
        for _ in range(chance.randrange(5, 30)):
            number += 1
            count = chance.choice([1, 1, 1, 2, 5, 20])
            payloads = [chance.randbytes(chance.choice([0, 10, 60, 400])) for _ in range(count)]
            if chance.random() < 0.1:
                payloads = [chance.randbytes(chance.randrange(3000, 9000))]
            frame = store(number, f"name.{number % 7}", payloads, client=chance.randrange(1, 30))
            copies = copies_of(frame)
            number += len(copies)
            changes += copies
            changes += last_messages(frame, number, chance)
            if chance.random() < 0.3:
                settled.add(frame.frame)
                later += map(settle, copies)
                continue
            if len(copies) > 1 and chance.random() < 0.3:
                later.append(settle(copies[chance.randrange(len(copies))]))
                continue
            left += len(payloads) * len(copies)
            if chance.random() < 0.2:
                changes.append(Attempt(frame.number, chance.randrange(1, 9), (0,) if len(payloads) > 1 else None))
        changes.append(Refusal(chance.randrange(1, 30), chance.randrange(1, 1000)))
        driver.commit(*changes)
        if len(later) < 20:
            continue
        driver.commit(*later)
        later.clear()
        if left < messages // 2:
            part_with_some(driver)
        elif left < messages // 2 + 100:
            driver.storage._seal._checkpoint(driver.storage._database)  # type: ignore[attr-defined]
    # Of what was dropped there is a dead letter, or a start would forget its name.
    dead = replace(store(number + 1, "name.3", client=1), name=DROPPED)
    driver.commit(*later, dead)
    driver.commit(bury(dead), DropGroup(DROPPED))
    return settled


def copies_of(frame: Store) -> list[Store]:
    """Return what is stored of a frame: itself for each queue; only groups get some of them."""
    queues = [queue for queue in (*GROUPS[:3], DROPPED) if matches(split_queue(queue)[0], frame.name)]
    # Of some names there are no other subscribers.
    queues = queues if frame.name == "name.2" else [frame.name, *queues]
    return [replace(frame, number=frame.number + index, name=queue) for index, queue in enumerate(queues)]


def last_messages(stored: Store, number: int, chance: random.Random) -> Iterator[Change]:
    """Yield the changes that keep a stored frame, or one of another name with this number, or both, or none."""
    if chance.random() < 0.5:
        yield Retain(stored.number, stored.name, stored.frame)
    if chance.random() < 0.3:
        name, payload = f"last.{number % 40}", chance.randbytes(chance.choice([10, 60, 5000]))
        frame = wire.encode_data(name, [(1.5, payload)], ack=0, codec=1, client=3, sequence=number)
        yield Retain(number, name, frame, 2e9 + number if number % 3 else None)


def part_with_some(driver: Driver) -> None:
    """Make a few messages dead letters or delayed ones, and let others expire later."""
    database = driver.storage._database  # type: ignore[attr-defined]
    database.executescript("""
        BEGIN;
        INSERT INTO dead SELECT number, name, 3, indexes, 1.5e9, 'attempts', 'ValueError: no', frame
            FROM message WHERE number % 11 = 3;
        DELETE FROM message WHERE number % 11 = 3;
        INSERT INTO delayed SELECT number, name, 2e9 + number, NULL, frame FROM message WHERE number % 11 = 5;
        DELETE FROM message WHERE number % 11 = 5;
        UPDATE message SET expires = 2e9 + number, error = 'gone' WHERE number % 11 = 7;
        COMMIT;
    """)
    recount(database)


def recount(database: sqlite3.Connection) -> None:
    """Make the counters fit."""
    for table, frames, size in (("message", "frames", "size"), *((word, word, f"{word}_size") for word in TABLES[1:])):
        rows = f"FROM {table} WHERE {table}.name = id"
        database.execute(
            f"UPDATE name SET {frames} = (SELECT COUNT(*) {rows}),"
            f" {size} = (SELECT coalesce(sum(length(frame)), 0) {rows})"
        )
    database.create_function("messages_in", 1, lambda frame: wire.read_header(frame).messages)
    waiting = "SELECT coalesce(sum(messages_in(frame)), 0) FROM message WHERE message.name = id"
    database.execute(f"UPDATE name SET messages = ({waiting})")


def make_sample(folder: Path, messages: int, form: str) -> Sample:
    """Make a store with real code, and learn all about it."""
    file = folder / "made.db"
    with sqlite(file) as driver:
        settled = fill(driver, messages)
        files = read_files(file)
    if form != "killed":
        files = read_files(file)
    if form == "without a seal":
        del files[".seal"]
    for path in folder.glob("made.db*"):
        path.unlink()
    write_files(folder / "learn.db", files)
    contents = contents_of(folder / "learn.db", folder / "copy")
    queues = {row[0]: row[1].decode() for row in contents["name"]}
    frames = {number: known for table in TABLES for number, known in learn(folder / "learn.db", table, queues)}
    last = {known.queue: known for _, known in learn(folder / "learn.db", "retained", queues)}
    assert check(folder / "learn.db").findings == []
    return Sample(files, contents, frames, last, settled)


def read_files(file: Path) -> dict[str, bytes]:
    paths = {ending: file.with_name(file.name + ending) for ending in ENDINGS}
    return {ending: path.read_bytes() for ending, path in paths.items() if path.exists()}


def write_files(file: Path, files: dict[str, bytes]) -> None:
    for ending in ENDINGS:
        path = file.with_name(file.name + ending)
        if ending in files:
            path.write_bytes(files[ending])
        else:
            path.unlink(missing_ok=True)


def learn(file: Path, table: str, queues: dict[int, str]) -> list[tuple[int, Known]]:
    """Find out where in the files each frame of a table is, and in which of the queues."""
    files = Files.of(file)
    frames = []
    with reading(files.database) as database, reading(files.wal) as logged, reading(files.seal) as sealed:
        assert database is not None
        verified = verify(files)
        image = Image(database, logged, sealed, verified)
        latest = verified.log.latest
        for found in walk(image, fresh_roots()[table], Walk()):
            parts = [(found.page, image.page(found.page).index(found.cell.local, found.at), len(found.cell.local))]
            missing = found.cell.size - len(found.cell.local)
            rest, pages = image.chain(found.cell.overflow, missing)
            for page in pages:
                parts.append((page, 4, min(missing, image.page_size - 4)))
                missing -= parts[-1][2]
            payload = found.cell.local + rest
            queue, frame = row_in(payload)
            extents = extents_of(parts, len(payload) - len(frame), latest, image.page_size)
            frames.append((found.cell.number, Known(table, queues[queue], frame, extents)))
    return frames


def row_in(payload: bytes) -> tuple[int, bytes]:
    """Return the id of the queue, and the frame, of a row."""
    layout = serials_of(Cell(0, len(payload), payload, 0))
    assert layout is not None
    values = values_of(payload, *layout)
    assert isinstance(values[1], int)
    assert isinstance(values[-1], bytes)
    return values[1], values[-1]


def extents_of(
    parts: Sequence[tuple[int, int, int]], skip: int, latest: dict[int, int], page_size: int
) -> list[Extent]:
    extents = []
    for page, at, size in parts:
        start = min(skip, size)
        skip -= start
        if page in latest:
            begin = place(page_size, latest[page]) + FRAME.size + at
            extents.append(Extent("-wal", begin + start, begin + size))
        else:
            begin = (page - 1) * page_size + at
            extents.append(Extent("", begin + start, begin + size))
    return [extent for extent in extents if extent.start < extent.end]


def contents_of(file: Path, folder: Path) -> Contents:
    """Return all rows of a store, looked at in a copy."""
    folder.mkdir(exist_ok=True)
    copy = folder / "contents.db"
    write_files(copy, read_files(file))
    with closing(sqlite3.connect(copy)) as database:
        database.text_factory = bytes
        tables = [name.decode() for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {table: sorted(map(tuple, database.execute(f"SELECT * FROM {table}")), key=repr) for table in tables}


# Judging.


def judge(sample: Sample, harm: Harm, folder: Path, *, with_repair: bool = True) -> Result:
    """Damage the sample, and see what check, server and repair make of it."""
    result = Result()
    file = folder / "store.db"
    for path in folder.glob("store.db*"):
        path.unlink()
    files = dict(sample.files)
    files[harm.ending] = harm.apply(files[harm.ending])
    write_files(file, files)
    before = read_files(file)
    report = check(file)
    if read_files(file) != before:
        result.problems.append(f"{harm}: check changed the files")
    opened = contents_when_opened(file, folder)
    if opened is not None and opened != sample.contents:
        result.counts["silent"] += 1
        if ".seal" in sample.files:
            result.problems.append(f"{harm}: opened with other contents; {report.findings}")
    elif report.is_sound != (opened is not None):
        result.problems.append(f"{harm}: check says sound: {report.is_sound}, but the server does not agree")
    else:
        result.counts["harmless" if report.is_sound else "reported"] += 1
    if not report.is_sound and with_repair:
        write_files(file, files)
        judge_repair(sample, harm, file, result)
    return result


def contents_when_opened(file: Path, folder: Path) -> Contents | None:
    """Return what a server would find; None if it refuses."""
    driver = Driver(SqliteStorage(file))
    try:
        driver.open()
    except StorageError:
        return None
    finally:
        driver.close()
    return contents_of(file, folder / "copy")


def judge_repair(sample: Sample, harm: Harm, file: Path, result: Result) -> None:
    try:
        outcome = repair(file)
    except StorageError as error:
        if harm.ending == "" and not harm.at:
            result.counts["nothing left to repair"] += 1
            return
        result.problems.append(f"{harm}: not repaired: {error}")
        return
    report = check(file)
    if not report.is_sound:
        result.problems.append(f"{harm}: after the repair: {report.findings[:3]}")
        return
    rescued = rescued_from(file)
    intact = {number: known for number, known in sample.frames.items() if harm.spares(known)}
    result.counts["intact frames"] += len(intact)
    copies = Counter((queue, frame) for _, queue, frame in rescued)
    wanted = Counter(known.frame for known in intact.values())
    there = Counter(frame for _, _, frame in rescued)
    for number, known in intact.items():
        found = copies[known.queue, known.frame]
        is_elsewhere = not found and there[known.frame] >= wanted[known.frame]
        result.counts["intact frames in another queue"] += is_elsewhere
        result.counts["intact frames lost"] += not found and not is_elsewhere
        result.counts["intact frames twice"] += found > 1
        if not found and not (is_elsewhere and may_change_its_queue(known, harm)):
            result.problems.append(f"{harm}: {number} of {known.queue} is lost, or in another queue: {is_elsewhere}")
    result.counts["with their number"] += len(
        {(number, known.frame) for number, known in intact.items()} & {(number, frame) for number, _, frame in rescued}
    )
    ours = {known.frame for known in sample.frames.values()}
    result.counts["settled ones that came back"] += sum(frame in sample.settled for _, _, frame in rescued)
    foreign = [number for number, _, frame in rescued if frame not in ours and frame not in sample.settled]
    result.counts["foreign frames"] += len(foreign)
    judge_last(sample, harm, file, result)
    told = {number for name in outcome.names for number in name.lost}
    result.counts["lost frames named"] += len(told)
    result.counts["cases repaired"] += 1
    result.counts["cases with publishers lost"] += bool(outcome.publishers_lost)
    if ".seal" in sample.files:
        # Without it nobody can tell.
        judge_publishers(sample, harm, file, result)
        judge_groups(harm, file, result)


def may_change_its_queue(known: Known, harm: Harm) -> bool:
    """Whether the queue may be unknown: a byte more or less hides no name; that of a delayed row is in no index."""
    return not harm.bits or known.table == "delayed"


def judge_groups(harm: Harm, file: Path, result: Result) -> None:
    """A group must be there after any byte was damaged, and one that was dropped must not be, unless it may."""
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as database:
        groups = {name for (name,) in database.execute("SELECT name FROM name WHERE since IS NOT NULL")}
    missing = set(GROUPS) - groups
    result.counts["groups missing"] += len(missing)
    if missing and harm.bits:
        result.problems.append(f"{harm}: groups that are gone: {missing}")
    if groups - {*GROUPS, DROPPED}:
        result.problems.append(f"{harm}: groups that never were: {groups - {*GROUPS, DROPPED}}")


def judge_last(sample: Sample, harm: Harm, file: Path, result: Result) -> None:
    """Each last message whose bytes are intact must be there, and no other one in its place."""
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as database:
        query = "SELECT name.name, frame FROM retained JOIN name ON retained.name = id"
        rescued = dict(database.execute(query))
    for name, known in sample.last.items():
        is_intact = harm.spares(known)
        result.counts["intact last messages"] += is_intact
        if is_intact and rescued.get(name) != known.frame:
            what = "lost" if name not in rescued else "not the last one any more"
            result.counts[f"last messages {what}"] += 1
            result.problems.append(f"{harm}: the last message of {name} is {what}")
    result.counts["last messages that are older"] += sum(
        name in rescued and rescued[name] != known.frame for name, known in sample.last.items()
    )


def rescued_from(file: Path) -> list[tuple[int, str, bytes]]:
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as database:
        return [
            row
            for table in TABLES
            for row in database.execute(f"SELECT number, name.name, frame FROM {table} JOIN name ON {table}.name = id")
        ]


def judge_publishers(sample: Sample, harm: Harm, file: Path, result: Result) -> None:
    """No publisher may be believed to have stored more than it has, or to have been refused less."""
    with closing(sqlite3.connect(f"file:{file}?immutable=1", uri=True)) as database:
        stored = {client: row for client, *row in database.execute("SELECT * FROM publisher")}
        refused = set(database.execute("SELECT * FROM refused"))
        (last_number,) = database.execute("SELECT number FROM last_number").fetchone()
    truth = {client: row for client, *row in sample.contents["publisher"]}
    for client, (key, highest, _) in stored.items():
        if key != truth[client][0] or highest > truth[client][1]:
            result.problems.append(f"{harm}: publisher {client} is not as it was")
        if not {row for row in sample.contents["refused"] if row[0] == client} <= refused and harm.ending != "-wal":
            result.problems.append(f"{harm}: a refusal of publisher {client} is forgotten")
    if harm.ending != "-wal" and last_number < sample.contents["last_number"][0][0]:
        result.problems.append(f"{harm}: the last number went back")


# Many damages.


def some_bits(chance: random.Random) -> int:
    """Return what a byte is changed by: as often one bit as any of them."""
    return 1 << chance.randrange(8) if chance.random() < 0.5 else chance.randrange(1, 256)


def flips(sample: Sample, count: int, seed: int) -> list[Harm]:
    """Return so many changes of single bytes, spread over all files by their sizes."""
    chance = random.Random(seed)
    sizes = {ending: len(content) for ending, content in sample.files.items()}
    # The small ones get their part too.
    weights = [max(size, sum(sizes.values()) // 10) for size in sizes.values()]
    harms = []
    for _ in range(count):
        (ending,) = chance.choices(list(sizes), weights)
        bits = some_bits(chance)
        harms.append(Harm(ending, chance.randrange(sizes[ending]), bits))
    return harms


def flips_before_frames(sample: Sample, count: int, seed: int) -> list[Harm]:
    """Return so many changes of bytes right before frames that are stored, where SQLite says what and how large it is.

    Spread over the whole file, few would be there.
    """
    chance = random.Random(seed)
    known = [*sample.frames.values(), *sample.last.values()]
    harms = []
    for _ in range(count):
        extent = chance.choice(known).extents[0]
        bits = some_bits(chance)
        harms.append(Harm(extent.ending, extent.start - chance.randrange(1, _ROW_HEAD), bits))
    return harms


def truncations(sample: Sample, step: int) -> list[Harm]:
    return [Harm(ending, length) for ending, content in sample.files.items() for length in range(0, len(content), step)]


def remember_checksums() -> None:
    """Work out once what is the same in each damaged log, which is nearly all of it."""
    if not hasattr(wal._checksum, "cache_info"):
        wal._checksum = lru_cache(10_000)(wal._checksum)


def judge_all(sample: Sample, harms: Sequence[Harm]) -> Result:
    remember_checksums()
    result = Result()
    with TemporaryDirectory(dir=fast_folder()) as name:
        for harm in harms:
            result.add(judge(sample, harm, Path(name)))
    return result


def every_length(sample: Sample, ending: str, lengths: Sequence[int]) -> Result:
    """Cut a file to each of these lengths, longest first, and have it compared with the seal alone."""
    remember_checksums()
    result = Result()
    with TemporaryDirectory(dir=fast_folder()) as name:
        file = Path(name, "store.db")
        write_files(file, sample.files)
        cut = file.with_name(file.name + ending)
        with cut.open("r+b") as descriptor:
            for length in sorted(lengths, reverse=True):
                descriptor.truncate(length)
                found = verify(Files.of(file))
                is_known = found.findings or (found.note is None and ending == ".seal")
                result.counts["reported" if is_known else "harmless"] += 1
    return result


def telling_lengths(sample: Sample, ending: str) -> list[int]:
    """Return every length of a file; of a log those around each frame, for half a frame is as good as none."""
    size = len(sample.files[ending])
    if ending != "-wal":
        return list(range(size))
    frame = FRAME.size + 4096
    ends = range(HEADER.size, size, frame)
    near = {end + more for end in (0, *ends) for more in (-1, 0, 1, FRAME.size, FRAME.size + 1, frame // 2)}
    return sorted(length for length in near if 0 <= length < size)


def fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def chunks(items: Sequence[Any], count: int) -> Iterator[Sequence[Any]]:
    for start in range(count):
        yield items[start::count]


def show(title: str, result: Result) -> None:
    print(f"{title}: " + ", ".join(f"{count} {word}" for word, count in result.counts.items()))
    for problem in result.problems[:20]:
        print("  " + problem)
    if len(result.problems) > 20:
        print(f"  and {len(result.problems) - 20} more")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--step", type=int, default=509, help="between the lengths that are repaired")
    parser.add_argument("--form", choices=FORMS, action="append", help="all, if none is named")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every-length", action="store_true", help="have every length compared with the seal")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    logging.disable()
    problems = 0
    with ProcessPoolExecutor(arguments.processes) as pool, TemporaryDirectory(dir=fast_folder()) as name:
        for form in arguments.form or FORMS:
            folder = Path(name, form)
            folder.mkdir()
            sample = make_sample(folder, arguments.messages, form)
            sizes = ", ".join(f"store.db{ending} {len(content)} bytes" for ending, content in sample.files.items())
            print(f"{form}: {len(sample.frames)} frames; {sizes}")
            heads = flips_before_frames(sample, arguments.flips // 10, arguments.seed)
            problems += run(pool, "flips before frames", sample, heads, arguments.processes)
            for ending in sample.files:
                some = [harm for harm in flips(sample, arguments.flips, arguments.seed) if harm.ending == ending]
                problems += run(pool, f"flips of store.db{ending}", sample, some, arguments.processes)
                cuts = [harm for harm in truncations(sample, arguments.step) if harm.ending == ending]
                problems += run(pool, f"lengths of store.db{ending}", sample, cuts, arguments.processes)
                if arguments.every_length:
                    lengths = telling_lengths(sample, ending)
                    parts = chunks(lengths, arguments.processes)
                    jobs = [pool.submit(every_length, sample, ending, part) for part in parts]
                    result = Result()
                    for job in jobs:
                        result.add(job.result())
                    show(f"  every length of store.db{ending}", result)
                    problems += len(result.problems)
    sys.exit(problems > 0)


def run(pool: ProcessPoolExecutor, title: str, sample: Sample, harms: Sequence[Harm], processes: int) -> int:
    result = Result()
    for job in [pool.submit(judge_all, sample, part) for part in chunks(harms, processes)]:
        result.add(job.result())
    show(f"  {len(harms)} {title}", result)
    return len(result.problems)


if __name__ == "__main__":
    main()
