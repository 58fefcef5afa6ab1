"""The layers of docs/architecture.md: who may import whom, who may touch the outside world, how long code may be.

The rules are the tables below. Imports are read from the source text, wherever they stand: at the top, in a function,
under ``if TYPE_CHECKING``, or as ``import_module("...")``.
"""

import ast
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parent.parent


class Layer(NamedTuple):
    """Parts of the package that stand at the same height; each may import all parts of the layers before it."""

    parts: frozenset[str]
    mix: bool = False
    """Whether a part may import another one of this layer."""


LAYERS: Final = (
    Layer(
        frozenset(
            {
                "errors",
                "message",
                "headers",
                "units",
                "channel",
                "codecs",
                "patterns",
                "pattern_table",
                "policy",
                "queues",
                "access",
                "dead_letter",
                "retained_message",
                "group_status",
            }
        ),
        mix=True,
    ),  # words
    Layer(frozenset({"protocol"})),  # what both ends speak
    Layer(frozenset({"broker"})),  # decides; does nothing itself
    Layer(frozenset({"settings", "storage", "transport"})),  # the outside world, one concern each
    Layer(frozenset({"client", "server"})),  # shells
    Layer(frozenset({"__init__"})),  # the public names
    Layer(frozenset({"cli", "testing", "pytest_plugin"}), mix=True),  # edges
)

PURE_LAYERS: Final = LAYERS[:3]

IMPURE_MODULES: Final = frozenset(
    {"asyncio", "os", "random", "secrets", "socket", "sqlite3", "threading", "time", "uuid", "uvloop", "zmq"}
)

# Wherever the left one leads, through whatever it imports, it must not load the right ones.
NEVER_LOADS: Final[Mapping[str, frozenset[str]]] = {
    "client": frozenset({"broker", "storage", "server"}),
}

# Beginnings of the modules that may import zmq.
ZMQ_USERS: Final = ("mezzenger.transport", "mezzenger.client", "mezzenger.server.loop")

# A name that says nothing about what is inside collects everything.
VAGUE_NAMES: Final = frozenset({"utils", "common", "helpers"})

MAX_MODULE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60


@dataclass(frozen=True)
class Import:
    """One imported module or name, written in full."""

    target: str
    line: int
    for_types_only: bool
    in_function: bool


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    """Dotted; a folder's ``__init__.py`` has the folder's name."""
    source: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def part(self) -> str:
        return part_of(self.name) or "__init__"


Package = Mapping[str, Module]
Rule = Callable[[Package], Iterator[str]]


class ImportFinder(ast.NodeVisitor):
    """Collects the imports of one file."""

    def __init__(self, package: str) -> None:
        self.found: list[Import] = []
        self._package = package.split(".")
        self._for_types_only = False
        self._depth = 0

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = [node.module] if node.module else []
        if node.level:
            base = self._package[: len(self._package) - node.level + 1] + base
        for alias in node.names:
            self._add(".".join([*base, alias.name]), node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in {"import_module", "__import__"} and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self._add(name.value, node)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) not in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            self.generic_visit(node)
            return
        before, self._for_types_only = self._for_types_only, True
        for child in node.body:
            self.visit(child)
        self._for_types_only = before
        for child in node.orelse:
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    def _add(self, target: str, node: ast.stmt | ast.expr) -> None:
        self.found.append(Import(target, node.lineno, self._for_types_only, self._depth > 0))


def read_package(sources: Mapping[str, str]) -> Package:
    """Parse files given as path and text; the paths begin with ``mezzenger/``."""
    package = {}
    for path, source in sources.items():
        name = path.removesuffix(".py").replace("/", ".")
        is_folder = name.endswith(".__init__")
        name = name.removesuffix(".__init__")
        tree = ast.parse(source, path)
        finder = ImportFinder(name if is_folder else name.rpartition(".")[0])
        finder.visit(tree)
        package[name] = Module(name, source, tree, tuple(finder.found))
    return package


def part_of(target: str) -> str | None:
    """Return the part that an imported name belongs to; ``None`` for the package's own folder and for strangers."""
    top, _, rest = target.partition(".")
    return rest.partition(".")[0] or None if top == "mezzenger" else None


def imported_part(target: str) -> str | None:
    """Return the part that this import reaches; ``from mezzenger import Message`` reaches the public names."""
    if target.partition(".")[0] != "mezzenger":
        return None
    part = part_of(target)
    return part if part is not None and height(part) is not None else "__init__"


def height(part: str) -> int | None:
    """Return the number of the layer that a part is in."""
    return next((number for number, layer in enumerate(LAYERS) if part in layer.parts), None)


def every_module_has_a_place(package: Package) -> Iterator[str]:
    """Every module belongs to a layer."""
    for module in package.values():
        if height(module.part) is None:
            yield f"{module.name} is in no layer of tests/test_architecture.py"


def layers_import_upwards(package: Package) -> Iterator[str]:
    """A part imports itself and the layers before its own, and others of its layer only where these may mix."""
    for module in package.values():
        here = height(module.part)
        if here is None:
            continue
        for found in module.imports:
            part = imported_part(found.target)
            there = None if part is None else height(part)
            if there is None or there < here or part == module.part or (there == here and LAYERS[here].mix):
                continue
            yield f"{module.name}:{found.line}: {module.part} imports {part}"


def pure_layers_stay_pure(package: Package) -> Iterator[str]:
    """The words, the protocol and the broker touch neither sockets, threads, clocks, chance nor files."""
    pure = frozenset[str]().union(*(layer.parts for layer in PURE_LAYERS))
    for module in package.values():
        for found in module.imports:
            top = found.target.partition(".")[0]
            if module.part in pure and top in IMPURE_MODULES:
                yield f"{module.name}:{found.line}: {module.part} is pure and imports {top}"


def loads_nothing_forbidden(package: Package) -> Iterator[str]:
    """What must never be loaded by a part is not loaded by anything that the part leads to either."""
    for part, forbidden in NEVER_LOADS.items():
        for module in package.values():
            if module.part != part:
                continue
            for name, route in reachable(package, module.name).items():
                if part_of(name) in forbidden:
                    yield f"{module.name} loads {name}: {' -> '.join(route)}"


def only_few_import_zmq(package: Package) -> Iterator[str]:
    """Only the transport, the client and the server's loop import zmq; for type checking anyone may."""
    for module in package.values():
        if module.name.startswith(ZMQ_USERS):
            continue
        for found in module.imports:
            if found.target.partition(".")[0] == "zmq" and not found.for_types_only:
                yield f"{module.name}:{found.line}: {module.part} imports zmq"


def names_say_something(package: Package) -> Iterator[str]:
    """No module is called utils, common or helpers."""
    for name in package:
        if VAGUE_NAMES & set(name.split(".")):
            yield f"{name}: name it after what it does"


def modules_are_short(package: Package) -> Iterator[str]:
    """A module has at most 400 lines."""
    for module in package.values():
        lines = len(module.source.splitlines())
        if lines > MAX_MODULE_LINES:
            yield f"{module.name} has {lines} lines; at most {MAX_MODULE_LINES} are allowed"


def functions_are_short(package: Package) -> Iterator[str]:
    """A function has at most 60 lines."""
    for module in package.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    yield f"{module.name}:{node.lineno}: {node.name} has {lines} lines; at most {MAX_FUNCTION_LINES}"


def reachable(package: Package, start: str) -> dict[str, tuple[str, ...]]:
    """Return every module that importing or using ``start`` loads, with the route to it."""
    routes: dict[str, tuple[str, ...]] = {}
    waiting: list[tuple[str, ...]] = [(start,)]
    while waiting:
        route = waiting.pop(0)
        if route[-1] in routes:
            continue
        routes[route[-1]] = route
        waiting.extend((*route, name) for name in loaded_by(package, route[-1]))
    return routes


def loaded_by(package: Package, name: str) -> Iterator[str]:
    """Yield the modules that one module loads: its folders, what it imports, and the folders of that.

    The public names are lazy: what ``mezzenger/__init__.py`` imports in a function or for type checking does not count.
    """
    yield from folders_and_self(package, name)
    for found in package[name].imports:
        is_lazy = found.in_function or found.for_types_only
        if not (name == "mezzenger" and is_lazy):
            yield from folders_and_self(package, found.target)


def folders_and_self(package: Package, target: str) -> Iterator[str]:
    """Yield ``a``, ``a.b`` and ``a.b.c`` for ``a.b.c``, as far as these are modules."""
    steps = target.split(".")
    for count in range(1, len(steps) + 1):
        name = ".".join(steps[:count])
        if name in package:
            yield name


RULES: Final[tuple[Rule, ...]] = (
    every_module_has_a_place,
    layers_import_upwards,
    pure_layers_stay_pure,
    loads_nothing_forbidden,
    only_few_import_zmq,
    names_say_something,
    modules_are_short,
    functions_are_short,
)


@pytest.fixture(scope="module")
def mezzenger() -> Package:
    files = (ROOT / "mezzenger").rglob("*.py")
    return read_package({file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in files})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_mezzenger_keeps_the_rule(rule: Rule, mezzenger: Package) -> None:
    """No module of the package breaks this rule."""
    assert list(rule(mezzenger)) == []


def test_the_package_is_read_as_a_whole(mezzenger: Package) -> None:
    """The rules above judged real modules with their imports, not an empty folder."""
    assert {"mezzenger", "mezzenger.errors", "mezzenger.protocol.wire"} <= mezzenger.keys()
    assert "mezzenger.errors" in reachable(mezzenger, "mezzenger.protocol.wire")


class Bad(NamedTuple):
    """Source that breaks a rule, and what the checker must say."""

    rule: Rule
    path: str
    source: str
    complaint: str


LONG_FUNCTION = "def f() -> None:\n" + "    pass\n" * MAX_FUNCTION_LINES

BAD = (
    Bad(every_module_has_a_place, "mezzenger/extras.py", "", "extras is in no layer"),
    Bad(layers_import_upwards, "mezzenger/errors.py", "from mezzenger.protocol import wire", "errors imports protocol"),
    Bad(layers_import_upwards, "mezzenger/protocol/wire.py", "import mezzenger.broker", "protocol imports broker"),
    Bad(layers_import_upwards, "mezzenger/broker/core.py", "from mezzenger import settings", "broker imports settings"),
    Bad(layers_import_upwards, "mezzenger/broker/core.py", "from ..storage import base", "broker imports storage"),
    Bad(layers_import_upwards, "mezzenger/broker/__init__.py", "from ..server import loop", "broker imports server"),
    Bad(layers_import_upwards, "mezzenger/storage/base.py", "import mezzenger.settings", "storage imports settings"),
    Bad(
        layers_import_upwards, "mezzenger/transport/a.py", "from mezzenger import storage", "transport imports storage"
    ),
    Bad(
        layers_import_upwards,
        "mezzenger/settings/models.py",
        "from mezzenger import transport",
        "settings.models:1: settings imports transport",
    ),
    Bad(layers_import_upwards, "mezzenger/client/sync.py", "import mezzenger.server.loop", "client imports server"),
    Bad(layers_import_upwards, "mezzenger/server/loop.py", "import mezzenger.client", "server imports client"),
    Bad(layers_import_upwards, "mezzenger/client/sync.py", "from mezzenger import Message", "client imports __init__"),
    Bad(layers_import_upwards, "mezzenger/server/loop.py", "from mezzenger.cli import tool", "server imports cli"),
    Bad(
        layers_import_upwards,
        "mezzenger/errors.py",
        "if TYPE_CHECKING:\n    from mezzenger.broker import core",
        "errors:2: errors imports broker",
    ),
    Bad(
        layers_import_upwards,
        "mezzenger/errors.py",
        "def late() -> None:\n    import_module('mezzenger.client')",
        "errors:2: errors imports client",
    ),
    Bad(pure_layers_stay_pure, "mezzenger/message.py", "import os.path", "message is pure and imports os"),
    Bad(
        pure_layers_stay_pure,
        "mezzenger/protocol/wire.py",
        "from time import time",
        "protocol is pure and imports time",
    ),
    Bad(
        pure_layers_stay_pure,
        "mezzenger/broker/core.py",
        "class Core:\n    async def f(self) -> None:\n        import zmq.asyncio",
        "broker.core:3: broker is pure and imports zmq",
    ),
    Bad(only_few_import_zmq, "mezzenger/server/admin.py", "import zmq", "server imports zmq"),
    Bad(only_few_import_zmq, "mezzenger/cli/tool.py", "from zmq.asyncio import Context", "cli imports zmq"),
    Bad(
        only_few_import_zmq,
        "mezzenger/settings/models.py",
        "if not TYPE_CHECKING:\n    import zmq",
        "settings imports zmq",
    ),
    Bad(
        only_few_import_zmq,
        "mezzenger/settings/models.py",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import zmq",
        "settings imports zmq",
    ),
    Bad(names_say_something, "mezzenger/broker/utils.py", "", "name it after what it does"),
    Bad(names_say_something, "mezzenger/helpers/text.py", "", "name it after what it does"),
    Bad(modules_are_short, "mezzenger/errors.py", "\n" * 401, "errors has 401 lines"),
    Bad(functions_are_short, "mezzenger/errors.py", LONG_FUNCTION, "errors:1: f has 61 lines"),
    Bad(functions_are_short, "mezzenger/errors.py", "async " + LONG_FUNCTION, "errors:1: f has 61 lines"),
)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.rule.__name__}: {bad.complaint}")
def test_a_breach_is_reported(bad: Bad) -> None:
    """Source that breaks the rule gets exactly one complaint, which says where and what."""
    (complaint,) = bad.rule(read_package({bad.path: bad.source}))
    assert bad.complaint in complaint


def test_a_breach_through_others_is_reported() -> None:
    """A client that reaches the broker by way of an innocent module is caught, with the route."""
    package = read_package(
        {
            "mezzenger/broker/core.py": "",
            "mezzenger/settings/models.py": "def late():\n    from mezzenger.broker import core",
            "mezzenger/client/sync.py": "from mezzenger.settings.models import Settings",
        }
    )
    (complaint,) = loads_nothing_forbidden(package)
    assert complaint.endswith("mezzenger.client.sync -> mezzenger.settings.models -> mezzenger.broker.core")


@pytest.mark.parametrize(
    ("public_names", "complaints"),
    [
        ("from mezzenger.server.loop import MezzengerServer", 1),
        ("def __getattr__(name):\n    from mezzenger.server.loop import MezzengerServer", 0),
        ("if TYPE_CHECKING:\n    from mezzenger.server.loop import MezzengerServer", 0),
    ],
)
def test_only_lazy_public_names_may_lead_a_client_to_the_server(public_names: str, complaints: int) -> None:
    """Importing the client runs ``mezzenger/__init__.py``, so that file may name the server only lazily."""
    package = read_package(
        {"mezzenger/__init__.py": public_names, "mezzenger/client/sync.py": "", "mezzenger/server/loop.py": ""}
    )
    assert len(list(loads_nothing_forbidden(package))) == complaints


GOOD = {
    "mezzenger/__init__.py": "from mezzenger.client.sync import Mezzenger\nfrom mezzenger.message import Message",
    "mezzenger/codecs.py": "import pickle\nfrom mezzenger.errors import PayloadNotDecodable",
    "mezzenger/errors.py": "if TYPE_CHECKING:\n    from mezzenger.message import Message",
    "mezzenger/message.py": "from mezzenger import codecs",
    "mezzenger/broker/core.py": "from . import routing\nfrom .routing import f\nfrom ..protocol import wire",
    "mezzenger/broker/routing.py": LONG_FUNCTION.removesuffix("    pass\n"),
    "mezzenger/protocol/wire.py": "\n" * 400,
    "mezzenger/transport/sockets.py": "import zmq",
    "mezzenger/client/sync.py": "import threading\nimport zmq",
    "mezzenger/server/loop.py": "import zmq\nfrom mezzenger import broker, storage",
    "mezzenger/server/admin.py": "if TYPE_CHECKING:\n    import zmq",
    "mezzenger/cli/tool.py": "from mezzenger import Mezzenger, settings\nfrom mezzenger.testing import server",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_good_source_passes(rule: Rule) -> None:
    """The checker does not complain about what is allowed."""
    assert list(rule(read_package(GOOD))) == []


@pytest.mark.parametrize("use", ["mezzenger.Message", "mezzenger.Mezzenger"])
def test_a_real_client_process_does_not_load_the_server(use: str) -> None:
    """After importing mezzenger and touching a client's name, no module of the broker, storage or server is loaded."""
    loaded = modules_after(f"import mezzenger; {use}")
    assert "mezzenger.message" in loaded
    assert {name for name in loaded if part_of(name) in NEVER_LOADS["client"]} == set()


def test_the_server_is_loaded_when_it_is_asked_for() -> None:
    """The test above can fail: touching MezzengerServer loads what it forbids."""
    assert {"mezzenger.server", "mezzenger.broker"} <= modules_after("import mezzenger; mezzenger.MezzengerServer")


@pytest.mark.parametrize("module", ["mezzenger", "mezzenger.pytest_plugin"])
def test_what_every_run_of_pytest_loads_is_next_to_nothing(module: str) -> None:
    """Neither the package nor its plugin loads any other module of it, nor what these need, before it is used."""
    loaded = modules_after(f"import {module}")
    assert {name for name in loaded if name.startswith("mezzenger")} == {"mezzenger", module}
    assert loaded.isdisjoint({"pydantic", "zmq", "msgspec", "yaml"})


@pytest.mark.parametrize("use", ["import mezzenger; mezzenger.Mezzenger", "import mezzenger.cli.tool"])
def test_asyncio_is_for_who_uses_it(use: str) -> None:
    """A client with threads, and each command, begins without it, and without TLS, which it brings along."""
    assert modules_after(use).isdisjoint({"asyncio", "ssl"})


def test_each_public_name_is_there() -> None:
    """Those that type checkers see are those that are loaded, and no others."""
    package = importlib.import_module("mezzenger")
    tree = ast.parse((ROOT / "mezzenger" / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    places = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert sorted([*places, "__version__"]) == sorted(package.__all__) == dir(package)
    for name, module in places.items():
        assert getattr(package, name) is getattr(importlib.import_module(module or ""), name)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = package.Nothing


def modules_after(code: str) -> set[str]:
    """Run ``code`` in a new Python and return the names of the modules that are loaded then."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return set(result.stdout.split())


def test_the_tests_are_a_package() -> None:
    """``tests/__init__.py`` exists; without it ``tests/asyncio`` or its like would hide the standard library's."""
    assert (ROOT / "tests" / "__init__.py").is_file()
