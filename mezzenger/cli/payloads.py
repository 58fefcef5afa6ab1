"""Payloads as people type and read them."""

import io
import json
import sys
from collections.abc import Sequence

from mezzenger.cli.exits import BadInput
from mezzenger.errors import MezzengerError
from mezzenger.message import check_headers


def parsed(text: str, place: str, *, as_json: bool) -> object:
    """Return the payload that a text is.

    Raises:
        BadInput: It should be JSON and is not; ``place`` is where it came from.
    """
    if not as_json:
        return text
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{place}, line {error.lineno}: not valid JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{place}: cannot be read as JSON: {error}") from None
    return value


def headers_of(texts: Sequence[str]) -> dict[str, str]:
    """Return the headers that ``KEY=VALUE`` options make.

    Raises:
        BadInput: One is of another form.
        InvalidMessage: They cannot be used.
    """
    headers = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise BadInput(f"--header {text!r}: must be KEY=VALUE")
        headers[key] = value
    check_headers(headers)
    return headers


def stdin() -> int:
    """Return the file descriptor of stdin.

    Raises:
        BadInput: It is closed.
    """
    if sys.stdin is None:
        raise BadInput("stdin is closed; give a PAYLOAD")
    return sys.stdin.fileno()


def open_stdout(*, in_utf8: bool) -> None:
    """See to it that every text can be written.

    Args:
        in_utf8: Whatever the locale says, as programs expect of JSON and YAML.

    Raises:
        MezzengerError: Stdout is closed.
    """
    if sys.stdout is None:
        raise MezzengerError("stdout is closed: there is nowhere to print to")
    # In UTF-8 only half characters are escaped, as \udc80, which is what JSON and YAML want.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8" if in_utf8 else None, errors="backslashreplace")


def text_of(payload: object) -> str:
    """Return a payload as people read it."""
    return payload if isinstance(payload, str) else repr_of(payload)


def json_of(value: object) -> str:
    """Return a value as JSON on one line; raises TypeError, ValueError or RecursionError if it has none."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def json_or_repr(payload: object) -> object:
    """Return the payload if it has a JSON text, else its ``repr``."""
    try:
        json_of(payload)
    except (TypeError, ValueError, RecursionError):
        return repr_of(payload)
    return payload


def repr_of(payload: object) -> str:
    """Return the ``repr`` of a payload, whatever that raises."""
    try:
        return repr(payload)
    except Exception as error:  # noqa: BLE001  # whoever sent it wrote this repr
        return f"<a {type(payload).__name__} whose repr raises {type(error).__name__}>"
