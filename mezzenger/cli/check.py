"""``--check-config``: shows the settings that hold."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel

from mezzenger.cli.exits import is_terminal
from mezzenger.cli.payloads import open_stdout
from mezzenger.cli.table import print_table
from mezzenger.settings import ChannelSettings, ServerSettings


def show(file: Path | None, server: ServerSettings, channels: Mapping[str, ChannelSettings]) -> None:
    """Print the file's name, all settings of the server, and of each channel what is set; on a pipe as YAML."""
    is_watched = is_terminal(sys.stdout)
    open_stdout(in_utf8=not is_watched)
    title = f"The configuration is fine. {_told_of(file)}"
    if is_watched:
        _show_table(title, server, channels)
        return
    print(f"# {title} These settings of the server hold:")
    _print_yaml(server.model_dump(mode="json"))
    if channels:
        print("# To the names that match a pattern, the first one that does, these apply instead:")
        set_ = {pattern: channel.model_dump(mode="json", exclude_none=True) for pattern, channel in channels.items()}
        _print_yaml({"channels": set_})


def _told_of(file: Path | None) -> str:
    if file is None:
        return "There is no file."
    name = str(file)
    # A line that ends in the midst of a name would end the comment.
    return f"The file is {name if name.isprintable() else repr(name)}."


def _print_yaml(values: Mapping[str, object]) -> None:
    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


class _Row(NamedTuple):
    """One setting."""

    path: tuple[str, ...]
    value: object
    meaning: str


def _show_table(title: str, server: ServerSettings, channels: Mapping[str, ChannelSettings]) -> None:
    rows = [*_rows((), server)]
    for pattern, channel in channels.items():
        rows += [row for row in _rows(("channels", _quoted(pattern)), channel) if row.value is not None]
    shown = ((".".join(path), _shown(value), meaning) for path, value, meaning in rows)
    print_table(("setting", "value", "meaning"), shown, title)


def _rows(path: tuple[str, ...], section: BaseModel) -> Iterator[_Row]:
    for key, value in section:
        if isinstance(value, BaseModel):
            yield from _rows((*path, key), value)
        else:
            yield _Row((*path, key), value, type(section).model_fields[key].description or "")


def _shown(value: object) -> str:
    is_plain = value is None or isinstance(value, int | float | tuple)
    return json.dumps(value, ensure_ascii=False) if is_plain else str(value)


def _quoted(pattern: str) -> str:
    """Write a pattern so that its dots are not taken for those of the path."""
    return json.dumps(pattern, ensure_ascii=False)
