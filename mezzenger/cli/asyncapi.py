"""``mezzenger asyncapi``: describes the channels of a module for people and programs elsewhere."""

import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final

import typer
import yaml
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from mezzenger.channel import Channel
from mezzenger.cli.exits import BadInput, reported
from mezzenger.cli.payloads import open_stdout

_COMMAND: Final = "mezzenger"
_ASYNCAPI: Final = "3.0.0"
_CONTENT_TYPES: Final = {
    "msgpack": "application/vnd.msgpack",
    "json": "application/json",
    "pickle": "application/x-python-serialize",
    "raw": "application/octet-stream",
}
Document = dict[str, Any]
"""A part of what is written as JSON or YAML."""


def asyncapi(
    *,
    module: Annotated[
        str, typer.Argument(metavar="MODULE", help="As Python imports it from this folder, or a file that ends in .py.")
    ],
    title: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Of the document, instead of the module's name.")
    ] = None,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Write YAML instead of JSON.")] = False,
) -> None:
    """Print an AsyncAPI 3.0 document about the channels that a module has in its variables.

    The module is imported, which runs it. Its docstring becomes the description, its __version__ the version.
    """
    with reported(_COMMAND):
        open_stdout(in_utf8=True)
        found = _import(module)
        document = describe(found, title or found.__name__)
        if as_yaml:
            print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end="")
        else:
            print(json.dumps(document, indent=2, ensure_ascii=False))


def describe(module: ModuleType, title: str) -> Document:
    """Return the AsyncAPI document of a module's channels.

    Raises:
        BadInput: It has none.
        InvalidChannel: The type of one has no JSON schema.
    """
    channels = channels_of(module)
    if not channels:
        raise BadInput(f"module {module.__name__!r} has no channels; assign them to variables: orders = Channel(...)")
    payloads, schemas = _schemas(channels)
    info = {"title": title, "version": str(getattr(module, "__version__", "0.0.0"))}
    if text := inspect.getdoc(module):
        info["description"] = text
    messages = {key: _message(channel, payloads[key]) for key, channel in channels.items()}
    return {
        "asyncapi": _ASYNCAPI,
        "info": info,
        "channels": {key: _channel(key, channel) for key, channel in channels.items()},
        "components": {"messages": messages} | ({"schemas": schemas} if schemas else {}),
    }


def channels_of(module: ModuleType) -> dict[str, Channel[Any]]:
    """Return a module's channels by the variables that hold them, each once, in the module's order."""
    found: dict[str, Channel[Any]] = {}
    for key, value in vars(module).items():
        if isinstance(value, Channel) and value not in found.values():
            # Other letters may not stand in what the document refers to.
            numbered = (f"channel{number}" for number in count(len(found) + 1))
            taken = vars(module).keys() | found.keys()
            found[key if key.isascii() else next(name for name in numbered if name not in taken)] = value
    return found


def _channel(key: str, channel: Channel[Any]) -> Document:
    parts, parameters = channel.name.split("."), {}
    for index, part in enumerate(parts):
        is_rest = part == ">" and index == len(parts) - 1
        if (parameter := _parameter(part, is_rest=is_rest)) is not None:
            name = "rest" if is_rest else f"part{index + 1}"
            parameters[name] = parameter
            parts[index] = f"{{{name}}}"
    messages = {key: {"$ref": f"#/components/messages/{key}"}}
    return {"address": ".".join(parts), "messages": messages} | ({"parameters": parameters} if parameters else {})


def _parameter(part: str, *, is_rest: bool) -> Document | None:
    """Return what is told of a part of a name if it is a parameter of the address."""
    if is_rest:
        return {"description": "One token or more, with dots between them."}
    if part == "*":
        return {"description": "One token."}
    # An address knows no other braces than those of parameters.
    return {"enum": [part]} if "{" in part or "}" in part else None


def _message(channel: Channel[Any], payload: Document) -> Document:
    return {"name": channel.name, "contentType": _CONTENT_TYPES[channel.codec.name], "payload": payload}


def _schemas(channels: Mapping[str, Channel[Any]]) -> tuple[dict[str, Document], Document]:
    """Return the schema of each channel's payload, and those that they refer to, by name."""
    for channel in channels.values():
        channel.json_schema()  # raises what names the channel
    payloads, rest = TypeAdapter.json_schemas(
        [(key, "validation", channel.adapter) for key, channel in channels.items()],
        by_alias=False,
        ref_template="#/components/schemas/{model}",
        schema_generator=_Draft7,
    )
    return {key: payload for (key, _), payload in payloads.items()}, rest.get("$defs", {})


class _Draft7(GenerateJsonSchema):
    """Writes schemas as AsyncAPI wants them: as JSON schema was in its draft 7."""

    def tuple_schema(self, schema: core_schema.TupleSchema) -> JsonSchemaValue:
        """Call the schemas of a tuple's first items ``items``, and that of all others ``additionalItems``."""
        written = super().tuple_schema(schema)
        if "prefixItems" in written:
            others = written.pop("items", None)
            written["items"] = written.pop("prefixItems")
            if others is not None:
                written["additionalItems"] = others
        return written

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Leave out the discriminator, which means something else there; the constants tell the schemas apart."""
        written = super().tagged_union_schema(schema)
        written.pop("discriminator", None)
        return written


def _import(module: str) -> ModuleType:
    """Import a module by its name or its file.

    Raises:
        BadInput: It cannot be imported.
    """
    path = Path(module)
    is_file = path.suffix == ".py"
    try:
        # Where it may expect its neighbours.
        sys.path.insert(0, str(path.resolve().parent if is_file else Path.cwd()))
        return _run(path) if is_file else importlib.import_module(module)
    except (Exception, SystemExit) as error:
        where = "" if is_file else "; modules are looked for in this folder and where Python looks, files end in .py"
        raise BadInput(f"cannot import {module!r}: {type(error).__name__}: {error}{where}") from error


def _run(path: Path) -> ModuleType:
    name = path.stem
    while name in sys.modules:
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no file that Python can run")
    found = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
