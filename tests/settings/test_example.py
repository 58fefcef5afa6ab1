"""``mezzenger.example.yaml``, which is the reference of all options."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
import yaml
from pydantic import BaseModel

from mezzenger.settings import ChannelSettings, ClientSettings, ServerSettings, Settings
from tests.settings.sources import write

EXAMPLE: Final = Path(__file__).parent.parent.parent / "mezzenger.example.yaml"
SECTIONS: Final[Mapping[str, type[BaseModel]]] = {"server": ServerSettings, "client": ClientSettings}
PATTERN: Final = "jobs.>"


def with_channels() -> str:
    """Return the file's text with the example of channels taken out of its comment."""
    before, start, example = EXAMPLE.read_text("utf-8").partition("# channels:\n")
    assert start
    return before + "channels:\n" + re.sub(r"^# ?", "", example, flags=re.MULTILINE)


def options(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Yield path and description of each option, those of sections within the model included."""
    for key, field in model.model_fields.items():
        yield (*path, key), field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from options(field.annotation, (*path, key))


def explained(text: str) -> dict[tuple[str, ...], str]:
    """Return the path of each key of a YAML file, in order, with the line above it."""
    found: dict[tuple[str, ...], str] = {}
    path: list[str] = []
    before = ""
    for line in text.splitlines():
        if key := re.match(r'( *)"?([^ #:"]+)"?:', line):
            path[len(key[1]) // 2 :] = [key[2]]
            found[tuple(path)] = before
        before = line.strip()
    return found


def paths_of(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each key in nested dicts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from paths_of(inner, (*path, key))


def test_it_has_the_defaults() -> None:
    """Whoever copies the file changes nothing."""
    assert Settings.load(EXAMPLE, environ={}) == Settings()


@pytest.mark.parametrize("section", SECTIONS)
def test_it_is_complete(section: str) -> None:
    """The file has every option of the section, at every depth, in the model's order."""
    written = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    assert list(written) == list(SECTIONS)
    assert list(paths_of(written[section])) == [path for path, _ in options(SECTIONS[section], ())]


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (ServerSettings, ("server",)),
        (ClientSettings, ("client",)),
        (ChannelSettings, ("channels", PATTERN)),
    ],
)
def test_it_explains_each_option(model: type[BaseModel], path: tuple[str, ...]) -> None:
    """Above each option stands, as a comment, the one line with which the model describes it."""
    lines = explained(with_channels())
    for place, description in options(model, path):
        assert description
        assert lines[place] == f"# {description}"


def test_its_channels_are_complete() -> None:
    """The first channel of the commented example has every option, at every depth, in the model's order."""
    written = yaml.safe_load(with_channels())
    assert list(paths_of(written["channels"][PATTERN])) == [path for path, _ in options(ChannelSettings, ())]


def test_its_channels_can_be_used() -> None:
    """Without its comment signs the example loads, and changes nothing but the channels."""
    loaded = Settings.load(write(with_channels()), environ={})
    assert next(iter(loaded.channels)) == PATTERN
    assert (loaded.server, loaded.client) == (ServerSettings(), ClientSettings())


def test_its_lines_are_short() -> None:
    """No line is longer than the code's."""
    assert max(map(len, EXAMPLE.read_text("utf-8").splitlines())) <= 120
