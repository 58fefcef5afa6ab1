"""Lists of things that a server keeps: a table for people, lines for scripts, JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from mezzenger.cli.exits import is_terminal
from mezzenger.cli.payloads import open_stdout
from mezzenger.cli.table import print_table

T = TypeVar("T")

# Control characters: a tab in a text would shift the columns, and others are orders to a terminal.
_ESCAPED: Final = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0))}


class Listing(NamedTuple):
    """What a list looks like."""

    columns: Sequence[str]
    nothing: str
    """What people are told if there is nothing to list."""


def show(
    things: Iterable[T],
    listing: Listing,
    cells: Callable[[T], Sequence[str]],
    fields: Callable[[T], Mapping[str, object]],
    *,
    as_json: bool,
) -> None:
    """Print things as they come: as JSON objects or tab-separated lines; on a terminal as a table, when all are there.

    Args:
        things: To be listed.
        listing: Headings of the table.
        cells: Returns the texts of one thing, one for each column.
        fields: Returns what stands in the JSON object of one thing.
        as_json: Whether to print JSON.

    Raises:
        MezzengerError: Stdout is closed.
    """
    open_stdout(in_utf8=as_json)
    if as_json:
        for thing in things:
            print(json.dumps(fields(thing), ensure_ascii=False))
    elif is_terminal(sys.stdout):
        rows = [_escaped(cells(thing)) for thing in things]
        if rows:
            print_table(listing.columns, rows)
        else:
            print(listing.nothing)
    else:
        for thing in things:
            print("\t".join(_escaped(cells(thing))))


def _escaped(texts: Sequence[str]) -> Sequence[str]:
    return [text.translate(_ESCAPED) for text in texts]
