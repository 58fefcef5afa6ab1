"""What the indexes and the small tables say about the frames that there were."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mezzenger.errors import InvalidName
from mezzenger.patterns import check_pattern
from mezzenger.queues import check_group, is_group, split_queue
from mezzenger.storage.pages import Image
from mezzenger.storage.records import Value, fresh_roots
from mezzenger.storage.trees import Walk, read_rows

_TRUSTED_KEY: Final = 16
_INDEX_OF: Final = {
    "message": "message_of_name",
    "delayed": "delayed_due",
    "dead": "dead_of_name",
    "retained": "retained_of_name",
}


class KnownName(NamedTuple):
    """A row of ``name``: a queue."""

    name: str
    offered: int | None
    """None if it cannot be trusted."""
    since: int | None
    """The last number when its group was made, None if it is that of no group.

    Where the mark is lost, as its name says, and 0: a group too many loses nothing, and inherits nothing.
    """


class PublisherRow(NamedTuple):
    """A row of ``publisher``."""

    client: int
    key: bytes
    stored: int
    seen: int


@dataclass
class Evidence:
    """All that is known without the frames themselves."""

    roots: dict[str, int]
    walked: Walk = field(default_factory=Walk)
    """All pages that were reached for this."""
    names: dict[int, KnownName] = field(default_factory=dict)
    live: dict[str, dict[int, Value]] = field(default_factory=dict)
    """For each table whose index is whole: the numbers of its rows, and what else the index says of each."""
    expires: dict[int, Value] | None = None
    """When messages expire, if that index is whole."""
    publishers: list[PublisherRow] = field(default_factory=list)
    publishers_lost: str = ""
    """Why publishers are missing, if they are."""
    refused: list[tuple[int, int]] = field(default_factory=list)
    last_number: int = 0
    last_number_is_known: bool = False


def gather(image: Image) -> Evidence:
    """Read the schema, the indexes and the small tables."""
    evidence = Evidence(_roots(image))
    _read_names(image, evidence)
    for table, index in _INDEX_OF.items():
        entries = _index(image, evidence, index)
        if entries is not None:
            evidence.live[table] = entries
    evidence.expires = _index(image, evidence, "message_expires")
    _read_publishers(image, evidence)
    _read_last_number(image, evidence)
    return evidence


def _roots(image: Image) -> dict[str, int]:
    """Return where the trees begin, which is always the same unless a later version has changed the tables."""
    walked = Walk()
    roots = fresh_roots()
    found = {
        values[1]: values[3]
        for _, values in read_rows(image, 1, walked)
        if len(values) > 3 and isinstance(values[1], str) and isinstance(values[3], int)  # noqa: PLR2004
    }
    if walked.is_whole and roots.keys() <= found.keys():
        roots |= found
    return roots


def _read_names(image: Image, evidence: Evidence) -> None:
    walked = Walk()
    # Without its row, a name is known from the index; and better so than from a row that is damaged.
    doubtful: dict[int, KnownName] = {}
    for found, values in read_rows(image, evidence.roots["sqlite_autoindex_name_1"], walked, is_index=True):
        match values:
            case [str(name), int(id_)] if _may_be_queue(name):
                names = doubtful if image.is_damaged(found.page) else evidence.names
                names[id_] = KnownName(name, None, _lost_mark(name))
    for found, values in read_rows(image, evidence.roots["name"], walked):
        id_ = found.cell.number
        match values:
            case [_, str(name), _, _, _, int(offered), *_, None | int() as since] if not image.is_damaged(found.page):
                evidence.names[id_] = KnownName(name, offered, since if is_group(name) else None)
            case [_, str(name), *_] if _may_be_queue(name):
                evidence.names.setdefault(id_, KnownName(name, None, _lost_mark(name)))
    evidence.names = doubtful | evidence.names
    evidence.walked.pages |= walked.pages


def _lost_mark(name: str) -> int | None:
    return 0 if is_group(name) else None


def _may_be_queue(name: str) -> bool:
    """Whether a name that nothing else confirms can be one: where a file is cut off, what follows is zeros."""
    pattern, group = split_queue(name)
    try:
        check_pattern(pattern)
        if group is not None:
            check_group(group)
    except InvalidName:
        return False
    return True


def _index(image: Image, evidence: Evidence, index: str) -> dict[int, Value] | None:
    walked = Walk()
    entries: dict[int, Value] = {}
    for _, values in read_rows(image, evidence.roots[index], walked, is_index=True):
        # The number is in a key that ends with it, and always behind the key.
        match values:
            case [key, int(number)] | [key, int(), int(number)] if number > 0 and number not in entries:
                entries[number] = key
            case _:
                walked.suspects.add(0)
    evidence.walked.pages |= walked.pages
    return entries if walked.is_whole else None


def _read_publishers(image: Image, evidence: Evidence) -> None:
    refused, known = Walk(), Walk()
    for _, values in read_rows(image, evidence.roots["refused"], refused, is_index=True):
        client, sequence = values[:2]
        if isinstance(client, int) and isinstance(sequence, int):
            evidence.refused.append((client, sequence))
    for found, values in read_rows(image, evidence.roots["publisher"], known):
        client = found.cell.number
        match values:
            case [None, bytes(key), int(stored), int(seen)] if not image.is_damaged(found.page):
                if len(key) == _TRUSTED_KEY:
                    evidence.publishers.append(PublisherRow(client, key, stored, seen))
                else:
                    known.suspects.add(found.page)
            case _:
                known.suspects.add(found.page)
    evidence.walked.pages |= refused.pages | known.pages
    if not refused.is_whole or image.log_is_damaged:
        # Who is believed to have stored what was refused would be told that it is stored.
        evidence.publishers.clear()
        evidence.refused.clear()
        evidence.publishers_lost = "all: which of their publishes were refused is not known for certain"
    elif not known.is_whole:
        evidence.publishers_lost = "those in damaged pages"


def _read_last_number(image: Image, evidence: Evidence) -> None:
    walked = Walk()
    for _, values in read_rows(image, evidence.roots["last_number"], walked):
        if values and isinstance(values[0], int):
            evidence.last_number = values[0]
    evidence.last_number_is_known = walked.is_whole and not image.log_is_damaged
    if not evidence.last_number_is_known:
        evidence.last_number = 0
    evidence.walked.pages |= walked.pages
    highest = [number for entries in evidence.live.values() for number in entries]
    highest += [publisher.seen for publisher in evidence.publishers]
    evidence.last_number = max([evidence.last_number, *highest])
