"""The outline of a tree of settings: which keys there are, and which of them are sections."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import get_args, get_origin

from pydantic import BaseModel

KeyPath = tuple[str, ...]
"""The keys that lead to a setting, such as ``("server", "resend", "initial")``."""


@dataclass(frozen=True)
class Outline:
    """The keys of one section."""

    keys: "Mapping[str, Outline | None]"
    """What stands at each key: a section, or ``None`` for a value."""
    others: "Outline | None" = None
    """The section that stands at any other key; ``None`` if there may be no other keys."""

    def below(self, key: str) -> "Outline | None":
        """Return the section at this key; ``None`` if a value stands there, or nothing."""
        return self.keys.get(key, self.others)

    def section(self, path: Sequence[str]) -> "Outline | None":
        """Return the section at the end of this path, likewise."""
        found: Outline | None = self
        for key in path:
            found = None if found is None else found.below(key)
        return found

    def paths(self) -> Iterator[KeyPath]:
        """Yield the path of each key: those of this section first, then those of the sections in it."""
        yield from ((key,) for key in self.keys)
        for key, section in self.keys.items():
            if section is not None:
                yield from ((key, *path) for path in section.paths())


@cache
def outline_of(model: type[BaseModel]) -> Outline:
    """Return the outline of a model, whose sections are models, or mappings of any keys to models."""
    return Outline({key: _section(field.annotation) for key, field in model.model_fields.items()})


def _section(annotation: object) -> Outline | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return outline_of(annotation)
    if get_origin(annotation) is Mapping:
        return Outline({}, others=_section(get_args(annotation)[1]))
    return None
