"""``--check-config``: shows the settings that hold."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import BaseModel

from mezzenger.cli.exits import is_terminal
from mezzenger.cli.payloads import open_stdout
from mezzenger.cli.table import print_table
from mezzenger.settings import ChannelSettings, ServerSettings


class _Row(NamedTuple):
    """One setting."""

    path: tuple[str, ...]
    value: object
    meaning: str


def show(server: ServerSettings, channels: Mapping[str, ChannelSettings]) -> None:
    """Print all settings of the server, and of each channel what is set; in plain lines, which are YAML, on a pipe."""
    is_watched = is_terminal(sys.stdout)
    open_stdout(in_utf8=not is_watched)
    of_server = list(_rows((), server))
    of_channels = [
        row
        for pattern, channel in channels.items()
        for row in _rows(("channels", _quoted(pattern)), channel)
        if row.value is not None
    ]
    if is_watched:
        _show_table([*of_server, *of_channels])
        return
    print("# The configuration is fine. These settings of the server hold:")
    _print_yaml(of_server)
    if of_channels:
        print("# To the names that match a pattern, the first one that does, these apply instead:")
        _print_yaml(of_channels)


def _rows(path: tuple[str, ...], section: BaseModel) -> Iterator[_Row]:
    for key, value in section:
        if isinstance(value, BaseModel):
            yield from _rows((*path, key), value)
        else:
            yield _Row((*path, key), value, type(section).model_fields[key].description or "")


def _print_yaml(rows: list[_Row]) -> None:
    open_sections: tuple[str, ...] = ()
    for path, value, _ in rows:
        *sections, key = path
        for depth, section in enumerate(sections):
            if open_sections[: depth + 1] != path[: depth + 1]:
                print(f"{'  ' * depth}{section}:")
        open_sections = path[:-1]
        print(f"{'  ' * len(sections)}{key}: {_shown(value)}")


def _show_table(rows: list[_Row]) -> None:
    shown = ((".".join(path), _shown(value), meaning) for path, value, meaning in rows)
    print_table(("setting", "value", "meaning"), shown, "The configuration is fine")


def _shown(value: object) -> str:
    """Write a value as it may stand in YAML."""
    is_plain = value is None or isinstance(value, int | float | tuple)
    return json.dumps(value, ensure_ascii=False) if is_plain else str(value)


def _quoted(pattern: str) -> str:
    """Write a pattern as it may stand in YAML, where a star or an arrow at the beginning means something else."""
    return json.dumps(pattern, ensure_ascii=False)
