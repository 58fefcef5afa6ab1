"""What is said about settings that are wrong."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mezzenger.settings.outline import KeyPath, Outline

NO_SECTION: Final = "must hold keys with values"

# pydantic's error types, in our words. What is missing here keeps pydantic's words.
_TEXTS: Final = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": NO_SECTION,
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "model_type": NO_SECTION,
    "path_type": "must be a path",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "value_error": "{error}",
}
_LONGEST_SHOWN: Final = 60

# How pydantic ends the path of a mapping's key, as opposed to the value at that key.
_KEY_ITSELF: Final = "[key]"


def problems_of(
    error: ValidationError, outline: Outline, origins: Mapping[KeyPath, str], place: KeyPath = ()
) -> list[str]:
    """Say in one line each what pydantic found.

    Args:
        outline: Of the model that was validated.
        origins: Where each setting was written, by its full path.
        place: The path of the model that was validated.
    """
    return [_problem(details, outline, origins, place) for details in error.errors(include_url=False)]


def dotted(path: KeyPath) -> str:
    """Write a path as people do; a key that is no word is quoted, for it may hold dots itself."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key) else repr(_shortened(key)) for key in path)


def shown(value: object) -> str:
    """Write a value as it stands in YAML, as far as that is short and plain."""
    if isinstance(value, int) and abs(value) >= 10**_LONGEST_SHOWN:
        return f"a number of more than {_LONGEST_SHOWN} digits"
    if value is None or isinstance(value, int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    text = _shortened(value)
    is_word = text.isprintable() and text.split() == [text]
    return text if is_word else repr(text)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def _problem(details: ErrorDetails, outline: Outline, origins: Mapping[KeyPath, str], place: KeyPath) -> str:
    *above, last = details["loc"]
    is_key = last == _KEY_ITSELF
    # Of an item in a list no source tells where it was written, but of the list.
    location = tuple(map(str, above if is_key or isinstance(last, int) else details["loc"]))
    path = (*place, *location)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        text = _unknown_key(outline, location)
    elif kind == "conflict":
        text = details["msg"]
        if (
            context["other"] and path not in origins
        ):  # The default of this key contradicts a value that was set: point at that one.
            text = f"{path[-1]} {text}"
            path = (*path[:-1], context["other"])
    else:
        words = {name: str(word).removesuffix(".0") for name, word in context.items()}
        text = _TEXTS[kind].format_map(words) if kind in _TEXTS else details["msg"]
        # A key stands in the path already.
        text = text if is_key else f"{text} (got {shown(details['input'])})"
    return f"{origins.get(path, 'argument')}: {dotted(path)}: {text}"


def _unknown_key(outline: Outline, path: KeyPath) -> str:
    section = outline.section(path[:-1])
    meant: dict[str, str] = {}
    for known in () if section is None else section.paths():
        # Who forgot a section wrote one of its keys; who wrote _ for the dot wrote the whole path.
        for start in range(len(known)):
            meant.setdefault("_".join(known[start:]), dotted(known))
    similar = get_close_matches(path[-1], meant, n=1)
    return f"unknown key; did you mean {meant[similar[0]]}?" if similar else "unknown key"
