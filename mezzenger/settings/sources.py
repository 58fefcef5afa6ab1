"""Where settings come from: a YAML file, the environment, and arguments."""

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import yaml

from mezzenger.errors import ConfigurationError
from mezzenger.settings.outline import KeyPath, Outline
from mezzenger.settings.problems import NO_SECTION, dotted, shown

_PREFIX: Final = "MEZZENGER_"
_SEPARATOR: Final = "__"
_FILE_VARIABLE: Final = "MEZZENGER_CONFIG"
_PLACES: Final = ("mezzenger.yaml", "~/.config/mezzenger/mezzenger.yaml", "/etc/mezzenger/mezzenger.yaml")

_NULL: Final = "tag:yaml.org,2002:null"
_MERGE: Final = "tag:yaml.org,2002:merge"

_NEARLY: Final = 0.9
"""As similar as a setting must be to a variable that may be another program's, such as MEZZENGER_SERVER_PORT."""


class Gathered:
    """What the sources give, one after the other; what is added later wins.

    Attributes:
        values: The settings, a dict for each section.
        origins: Where each section was first mentioned, and where the value that wins of each key was written.
        problems: What is wrong with the sources themselves, one line each.
    """

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self.values: dict[str, object] = {}
        self.origins: dict[KeyPath, str] = {}
        self.problems: list[str] = []
        self._sections: dict[KeyPath, dict[str, object]] = {(): self.values}

    def add_file(self, path: str | Path | None, environ: Mapping[str, str]) -> None:
        """Add what the YAML file says that is named, or the first that is found.

        Raises:
            ConfigurationError: The file cannot be read, or is no YAML.
        """
        file = find_file(path, environ)
        if file is not None:
            prefix = f"environment {_FILE_VARIABLE}: " if path is None and environ.get(_FILE_VARIABLE) else ""
            self._add_node(file, (), _compose(file, _read(file, prefix)), self._outline)

    def add_environment(self, environ: Mapping[str, str]) -> None:
        """Add what variables such as ``MEZZENGER_SERVER__PUB_PORT`` say."""
        # Not by pydantic-settings: it does not say which variable a value is from, and passes over misspelt sections.
        for name, value in environ.items():
            first, separator, _ = name.removeprefix(_PREFIX).partition(_SEPARATOR)
            if name.startswith(_PREFIX) and first and separator:
                self._add_variable(name, value)
            elif name.startswith(_PREFIX) and not separator:
                self._refuse_if_meant(name, value)

    def add_arguments(self, arguments: Mapping[str, object], path: KeyPath = ()) -> None:
        """Add keyword arguments of the section at this path; ``None`` means not given."""
        for key, value in arguments.items():
            if isinstance(value, Mapping) and self._outline.section((*path, key)) is not None:
                self._add_section((*path, key), "argument")
                self.add_arguments(value, (*path, key))
            elif value is not None:
                self._add((*path, key), value, "argument")

    def _add_node(self, file: str, path: KeyPath, node: yaml.Node, section: Outline) -> None:
        for key, origin, value in self._entries(file, path, node):
            below = section.below(key)
            if below is not None:
                self._add_section((*path, key), origin)
                self._add_node(file, (*path, key), value, below)
            else:
                self._add((*path, key), _construct(origin, value) if key in section.keys else None, origin)

    def _entries(self, file: str, path: KeyPath, node: yaml.Node) -> Iterator[tuple[str, str, yaml.Node]]:
        """Yield key, origin and value of a mapping, then those that it lacks of the mappings under its key ``<<``."""
        # Not by PyYAML, which would not tell a key that is there twice from one that replaces another.
        waiting, taken, keys = [node], set[yaml.Node](), set[str]()
        while waiting:
            mapping = waiting.pop(0)
            taken.add(mapping)
            for key, origin, value in self._own_entries(file, path, mapping):
                if key not in keys:
                    keys.add(key)
                    yield key, origin, value
            waiting[:0] = (merged for merged in _merged_by(mapping) if merged not in taken)

    def _own_entries(self, file: str, path: KeyPath, node: yaml.Node) -> Iterator[tuple[str, str, yaml.Node]]:
        """Yield key, origin and value of a mapping; note as a problem what is none, and a key that is there twice."""
        if node.tag == _NULL:
            return
        if not isinstance(node, yaml.MappingNode):
            what = f"{dotted(path)}: {NO_SECTION}" if path else "must hold sections, such as server: and client:"
            self.problems.append(f"{file}:{node.start_mark.line + 1}: {what}")
            return
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                continue
            line = key_node.start_mark.line + 1
            origin = f"{file}:{line}"
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{origin}: a key must be a word")
                continue
            key = key_node.value
            if key in first_lines:
                full = dotted((*path, key))
                self.problems.append(f"{origin}: {full}: is set twice, first in line {first_lines[key]}")
                continue
            first_lines[key] = line
            yield key, origin, value_node

    def _add_variable(self, name: str, value: str) -> None:
        origin = f"environment {name}"
        words = name.removeprefix(_PREFIX).lower().split(_SEPARATOR)
        section: Outline = self._outline
        for depth, word in enumerate(words):
            path = tuple(words[:depth])
            if section.others is not None:
                self.problems.append(f"{origin}: {dotted(path)}: must be set in the YAML file; a variable cannot do it")
                return
            below = section.below(word)
            if below is None:
                # Behind a value nothing can follow; behind a misspelt section it does not matter what does.
                key = _SEPARATOR.join(words[depth:]) if word in section.keys else word
                self._add((*path, key), value, origin)
                return
            section = below
            self._add_section((*path, word), origin)
        self.problems.append(f"{origin}: {dotted(tuple(words))}: {NO_SECTION} (got {shown(value)})")

    def _refuse_if_meant(self, name: str, value: str) -> None:
        """Note as a problem that a variable looks like a setting, for it would have no effect."""
        known = {"_".join(path): path for path in self._outline.paths() if len(path) > 1}
        similar = get_close_matches(name.removeprefix(_PREFIX).lower(), known, n=1, cutoff=_NEARLY)
        # Of a service named mezzenger-server-pub, orchestrators tell where it is: tcp://10.0.0.5:7201.
        if similar and "://" not in value:
            meant = _PREFIX + _SEPARATOR.join(known[similar[0]]).upper()
            self.problems.append(f"environment {name}: unknown variable; did you mean {meant}, with two underscores?")

    def _add_section(self, path: KeyPath, origin: str) -> None:
        self._section_at(path)
        self.origins.setdefault(path, origin)

    def _add(self, path: KeyPath, value: object, origin: str) -> None:
        self._section_at(path[:-1])[path[-1]] = value
        self.origins[path] = origin

    def _section_at(self, path: KeyPath) -> dict[str, object]:
        """Return the dict of a section, made if there is none yet."""
        if path not in self._sections:
            self._sections[path] = {}
            self._section_at(path[:-1])[path[-1]] = self._sections[path]
        return self._sections[path]


def find_file(path: str | Path | None, environ: Mapping[str, str]) -> str | None:
    """Return a file's name; None if none is named and none is in the usual places."""
    if path is not None:
        return str(path)
    if named := environ.get(_FILE_VARIABLE):
        return named
    for place in _PLACES:
        # Unlike their twins in pathlib, these two never raise: there may be no home, or none that we may enter.
        file = os.path.expanduser(place)  # noqa: PTH111
        if os.path.exists(file):  # noqa: PTH110
            return file
    return None


def _read(file: str, prefix: str) -> str:
    if not file:
        raise ConfigurationError(["the name of the settings file is empty"])
    try:
        return Path(file).read_text("utf-8-sig")
    except OSError as error:
        raise ConfigurationError([f"{prefix}{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([f"{prefix}{file}: is not UTF-8 text"]) from None
    except ValueError as error:
        raise ConfigurationError([f"{prefix}{file}: cannot be read: {error}"]) from None


def _compose(file: str, text: str) -> yaml.Node:
    """Parse the text to nodes, which know their lines, as the values made from them do not."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _invalid(f"{file}:{line}", error) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _invalid(f"{file}:{line}", error) from None
    except RecursionError as error:
        raise _invalid(f"{file}:{loader.line + 1}", error) from None
    return node or yaml.ScalarNode(_NULL, "")


def _merged_by(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield what stands under the key ``<<`` of a mapping."""
    for key_node, value_node in node.value if isinstance(node, yaml.MappingNode) else ():
        if key_node.tag == _MERGE:
            yield from value_node.value if isinstance(value_node, yaml.SequenceNode) else (value_node,)


def _construct(origin: str, node: yaml.Node) -> object:
    try:
        value: object = yaml.SafeLoader("").construct_document(node)
    except Exception as error:  # noqa: BLE001  # what does not fit its tag may make PyYAML fail with anything
        raise _invalid(origin, error) from None
    return value


def _invalid(origin: str, error: Exception) -> ConfigurationError:
    if isinstance(error, yaml.MarkedYAMLError):
        reason = ", ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, yaml.YAMLError | ValueError):
        reason = str(error).splitlines()[0]
    elif isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    else:
        reason = "a value does not fit its tag"
    return ConfigurationError([f"{origin}: is not valid YAML: {reason}"])
