"""``mezzenger asyncapi``: a document that others can read, and what is said when there can be none."""

import importlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from mezzenger import Channel
from mezzenger.cli.asyncapi import describe
from tests.cli.processes import TOOL, Commands

SHOP = '''"""What the shop tells.

And what it does not.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field
from kinds import Size  # beside this file

from mezzenger import Channel

__version__ = "1.2"


class Paid(BaseModel):
    kind: Literal["paid"] = "paid"
    where: tuple[float, float] = (0.0, 0.0)


class Sent(BaseModel):
    """On its way."""

    kind: Literal["sent"] = "sent"
    parcels: list[tuple[str, Size]]
    rest: tuple[int, ...] = Field(default=(), serialization_alias="REST")


ORDERS = Channel("orders.*.events", Annotated[Paid | Sent, Field(discriminator="kind")], codec="json")
EVERYTHING = Channel("orders.>", dict[str, int | None])
IMAGES = Channel("images", bytes, codec="raw")
PICTURES = IMAGES
PARCELS = Channel("parcels", Sent, codec="pickle")
türen = Channel("doors", bool)
not_a_channel = "orders"
'''

KINDS = """from enum import Enum


class Size(Enum):
    SMALL = "S"
    LARGE = "L"
"""


@pytest.fixture
def shop(commands: Commands) -> Path:
    """A module with channels."""
    (commands.folder / "kinds.py").write_text(KINDS, "utf-8")
    file = commands.folder / "shop.py"
    file.write_text(SHOP, "utf-8")
    return file


def written(commands: Commands, *arguments: object) -> dict[str, Any]:
    done = commands.run(TOOL, "asyncapi", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    document = yaml.safe_load(done.stdout) if "--yaml" in arguments else json.loads(done.stdout)
    assert isinstance(document, dict)
    return document


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_it_is_asyncapi(commands: Commands, shop: Path) -> None:
    """The document is valid, and each reference leads somewhere."""
    document = written(commands, "shop")
    with warnings.catch_warnings(action="ignore"):  # of pydantic, when it is imported
        model = importlib.import_module("asyncapi3.models.asyncapi")
    model.AsyncAPI3.model_validate(document)
    for reference in references(document):
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)


def test_what_is_told(commands: Commands, shop: Path) -> None:
    """Each channel once, with its name, its codec and its parameters; the module tells the rest."""
    document = written(commands, "shop")
    assert document["asyncapi"] == "3.0.0"
    assert document["info"] == {
        "title": "shop",
        "version": "1.2",
        "description": "What the shop tells.\n\nAnd what it does not.",
    }
    addresses = {key: channel["address"] for key, channel in document["channels"].items()}
    assert addresses == {
        "ORDERS": "orders.{part2}.events",
        "EVERYTHING": "orders.{rest}",
        "IMAGES": "images",
        "PARCELS": "parcels",
        "channel5": "doors",
    }
    assert list(document["channels"]["ORDERS"]["parameters"]) == ["part2"]
    messages = document["components"]["messages"]
    assert messages["ORDERS"]["name"] == "orders.*.events"
    types = [message["contentType"].removeprefix("application/") for message in messages.values()]
    assert types == ["json", "vnd.msgpack", "octet-stream", "x-python-serialize", "vnd.msgpack"]
    assert set(document["components"]["schemas"]) == {"Paid", "Sent", "Size"}
    assert "REST" not in document["components"]["schemas"]["Sent"]["properties"]


@pytest.mark.parametrize(
    ("payload", "is_good"),
    [
        ({"kind": "paid", "where": [1.5, 2.5]}, True),
        ({"kind": "sent", "parcels": [["a", "S"]], "rest": [1, 2, 3]}, True),
        ({"kind": "paid", "where": [1.5, 2.5, 3.5]}, False),
        ({"kind": "sent", "parcels": [["a", "XL"]]}, False),
        ({"kind": "paid", "where": ["x", 2.5]}, False),
        ({"kind": "lost"}, False),
    ],
)
def test_the_schemas_hold(payload: object, is_good: bool, commands: Commands, shop: Path) -> None:
    """They accept what the channel writes as JSON, and refuse what it would not read."""
    document = written(commands, "shop")
    schema = document["components"]["messages"]["ORDERS"]["payload"] | {"components": document["components"]}
    assert jsonschema.Draft7Validator(schema).is_valid(payload) == is_good


def test_every_channel_has_a_key() -> None:
    """What a variable in other letters is called in the document is no other variable's name."""
    module = ModuleType("shop")
    for name in ("türen", "channel1", "töre", "channel2", "fënster"):
        setattr(module, name, Channel(f"of {name}", int))
    addresses = {key: channel["address"] for key, channel in describe(module, "Shop")["channels"].items()}
    assert addresses == {
        "channel3": "of türen",
        "channel1": "of channel1",
        "channel4": "of töre",
        "channel2": "of channel2",
        "channel5": "of fënster",
    }


@pytest.mark.parametrize(
    ("name", "address", "parameters"),
    [
        ("a.>.b", "a.>.b", {}),
        (">", "{rest}", {"rest": None}),
        ("*.>", "{part1}.{rest}", {"part1": None, "rest": None}),
        ("a.{b}.c", "a.{part2}.c", {"part2": ["{b}"]}),
        ("a.b}.*", "a.{part2}.{part3}", {"part2": ["b}"], "part3": None}),
    ],
)
def test_what_is_a_parameter(name: str, address: str, parameters: dict[str, list[str] | None]) -> None:
    """A wildcard is; and so is a token with braces, which could not be told from one, with a single value."""
    module = ModuleType("shop")
    setattr(module, "orders", Channel(name, int))  # noqa: B010  # a type checker refuses the plain assignment
    described = describe(module, "Shop")["channels"]["orders"]
    assert described["address"] == address
    assert {key: told.get("enum") for key, told in described.get("parameters", {}).items()} == parameters


def test_yaml_title_and_file(commands: Commands, shop: Path) -> None:
    """The same in YAML, from the file, which finds its neighbours wherever it is called from."""
    as_json = written(commands, "shop")
    assert written(commands, shop, "--yaml") == as_json
    assert written(commands, shop, "--title", "The shop")["info"]["title"] == "The shop"


@pytest.mark.parametrize("arguments", [(), ("--yaml",)])
def test_the_document_is_utf8(arguments: tuple[str, ...], commands: Commands) -> None:
    """Whatever the locale says: programs read JSON and YAML as UTF-8."""
    source = 'from mezzenger import Channel\n\nBOOKS = Channel("bücher", str)\n'
    (commands.folder / "library.py").write_text(source, "utf-8")
    result = commands.run(TOOL, "asyncapi", "library", *arguments, environ={"PYTHONIOENCODING": "latin-1"})
    assert (result.returncode, result.stderr) == (0, "")
    assert yaml.safe_load(result.stdout)["channels"]["BOOKS"]["address"] == "bücher"


def test_a_file_that_is_called_like_a_module(commands: Commands, shop: Path) -> None:
    """Not Python's own module is described, but the file; for everybody else the name still means Python's."""
    shop.write_text(f"{SHOP}\nimport json\n\njson.dumps(1)\n", "utf-8")
    folder = commands.folder / "elsewhere"
    folder.mkdir()
    for file, name in ((shop, "json.py"), (shop.with_name("kinds.py"), "kinds.py")):
        file.rename(folder / name)
    assert set(written(commands, folder / "json.py")["channels"]) >= {"ORDERS", "IMAGES"}


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("no_such", "", "cannot import 'no_such': ModuleNotFoundError: No module named 'no_such'; modules are looked"),
        ("none.py", "", "cannot import 'none.py': FileNotFoundError"),
        ("loop.py", "", "cannot import 'loop.py': "),
        ("it", "1 / 0", "cannot import 'it': ZeroDivisionError: division by zero"),
        ("it", "raise SystemExit(3)", "cannot import 'it': SystemExit: 3"),
        ("it.py", "import no_neighbour", "cannot import 'it.py': ModuleNotFoundError: No module named 'no_neighbour'"),
        ("it", "x = 1", "module 'it' has no channels; assign them to variables: orders = Channel(...)"),
        (
            "it",
            "import mezzenger, typing\nc = mezzenger.Channel('a', typing.Callable[[int], int])",
            "channel 'a': typing.Callable[[int], int] has no JSON schema",
        ),
    ],
)
def test_what_cannot_be_described(name: str, source: str, words: str, commands: Commands) -> None:
    """One line tells what is wrong, and the exit code is 2."""
    if source:
        (commands.folder / "it.py").write_text(source, "utf-8")
    (commands.folder / "loop.py").symlink_to("loop.py")
    done = commands.run(TOOL, "asyncapi", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"mezzenger: error: {words}")
    assert done.stderr.count("\n") == 1
