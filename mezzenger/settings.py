"""The settings of server and client, from arguments, the environment and one YAML file.

Nothing else in Mezzenger knows YAML or the environment. Whatever is wrong is reported at once, with the place where it
was written: ``mezzenger.yaml:12: server.pub_port: must be at most 65535 (got 99999)``.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from ipaddress import IPv6Address
from operator import ge, gt, ne
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, NamedTuple, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from mezzenger.errors import ConfigurationError
from mezzenger.units import Duration, Size

_PREFIX: Final = "MEZZENGER_"
_FILE_VARIABLE: Final = "MEZZENGER_CONFIG"
_PLACES: Final = ("mezzenger.yaml", "~/.config/mezzenger/mezzenger.yaml", "/etc/mezzenger/mezzenger.yaml")

# pydantic's error types, in our words. What is missing here keeps pydantic's words.
_TEXTS: Final = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
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
    "model_type": "must hold keys with values",
    "path_type": "must be a path",
    "string_type": "must be text",
    "value_error": "{error}",
}
_LONGEST_SHOWN: Final = 60

_NULL: Final = "tag:yaml.org,2002:null"


def _compared(other: str, fits: Callable[[float, float], bool], rule: str) -> AfterValidator:
    """Compare a field with one that is declared before it."""

    def compare(value: float, info: ValidationInfo) -> float:
        if other not in info.data or fits(value, info.data[other]):
            return value
        # A validator of the whole model could not tell which keys contradict each other.
        text = f"{rule} {other} (got {value:g} and {info.data[other]:g})"
        raise PydanticCustomError("conflict", "{text}", {"text": text, "other": other})

    return AfterValidator(compare)


def _can_both_be_bound(port: float, taken: float) -> bool:
    return port != taken or port == 0


def _check_host(host: str) -> str:
    if not host or re.search(r"[\s/]", host) or (":" in host and not _is_ipv6(host)):
        raise ValueError("must be a host name or address without scheme and port, such as 10.0.0.5, ::1 or example.org")
    return host


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


Host = Annotated[str, AfterValidator(_check_host)]
"""A host name, an IPv4 address, or an IPv6 address without brackets."""


# Defaults are validated too, since a key that is set may contradict the default of another.
class _Model(BaseModel, frozen=True, extra="forbid", validate_default=True):
    """Settings that cannot be changed, know all their keys, and report mistakes as ``ConfigurationError``."""

    _section: ClassVar[tuple[str, ...]] = ()

    # Type checkers must see the constructor that is made from the fields, not this one.
    if not TYPE_CHECKING:  # pragma: no branch  # always so when it runs

        def __init__(self, **values: object) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                origins = {(*self._section, key): "argument" for key in values}
                raise ConfigurationError(_problems(error, origins, self._section)) from None

        # Without this mark pydantic would call __init__ for each nested model as well. Its ConfigurationError would end
        # the validation there, and Settings.load could not report the other problems, nor where each was written.
        __init__.__pydantic_base_init__ = True

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_flags_as_numbers(cls, value: object, info: ValidationInfo) -> object:
        # YAML reads `yes` and `on` as true, which pydantic would take for 1.
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in {int, float}:
            raise ValueError("must be a number")
        return value


class ServerSettings(_Model):
    """What the daemon needs to know."""

    _section = ("server",)

    bind: Host = Field("127.0.0.1", description="Address to listen on; loopback serves this machine only.")
    pub_port: int = Field(7201, ge=0, le=65535, description="Port that hands messages out; 0 takes any free port.")
    recv_port: Annotated[int, _compared("pub_port", _can_both_be_bound, "must differ from")] = Field(
        7202, ge=0, le=65535, description="Port that takes messages in; 0 takes any free port."
    )
    # Empty text is how an argument or a variable takes back what the file sets.
    persist_file: Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)] = Field(
        None, description="File that keeps ack=1 messages across restarts; null keeps them in memory."
    )
    verbose: bool = Field(default=False, description="Log what happens to each message.")
    max_message_size: Size = Field(
        64 * 2**20, ge=64 * 2**10, le=2**30, description="Largest message that is taken, from 64KiB to 1GiB."
    )
    max_pending_size: Size | None = Field(
        None, ge=2**20, description="Unacknowledged bytes kept at most; null is 256MiB in memory, 10GiB in a file."
    )
    send_queue: int = Field(100_000, ge=1, description="Frames queued for one subscriber; beyond it some are left out.")
    credit: int = Field(4096, ge=1, description="ack=1 frames sent to one subscriber and not yet acknowledged.")
    resend_initial: Duration = Field(1.0, gt=0, description="Pause before an ack=1 message is first sent again.")
    resend_multiplier: float = Field(
        2.0, ge=1, allow_inf_nan=False, description="How much longer each pause is than the one before."
    )
    resend_max: Annotated[Duration, _compared("resend_initial", ge, "must be at least")] = Field(
        60.0, description="Longest pause between two deliveries of one message."
    )
    heartbeat_interval: Duration = Field(1.0, gt=0, description="How often a silent client is asked whether it lives.")
    heartbeat_timeout: Annotated[Duration, _compared("heartbeat_interval", gt, "must be more than")] = Field(
        3.0, description="Silence after which a client counts as gone."
    )
    drain_timeout: Duration = Field(5.0, description="How long a stop waits for what is under way.")


class ClientSettings(_Model):
    """What a process that sends and subscribes needs to know."""

    _section = ("client",)

    server_address: Host = Field("127.0.0.1", description="Host name or address of the server.")
    send_port: int = Field(7202, ge=1, le=65535, description="The server's recv_port.")
    sub_port: Annotated[int, _compared("send_port", ne, "must differ from")] = Field(
        7201, ge=1, le=65535, description="The server's pub_port."
    )
    send_timeout: Duration = Field(2.0, gt=0, description="How long one attempt to send waits for the server.")
    connection_retries: int = Field(5, ge=0, description="Further attempts before ServerUnreachable is raised.")
    auto_start: bool = Field(default=True, description="Start to receive at once, without a call of start().")
    verbose: bool = Field(default=False, description="Log what happens to each message.")
    codec: Literal["pickle", "msgpack", "json", "raw"] = Field(
        "pickle", description="How payloads are written: pickle, msgpack, json or raw."
    )
    allow_pickle: Literal["loopback", "always", "never"] = Field(
        "loopback", description="Servers whose pickled payloads are un-pickled: loopback, always or never."
    )
    window: int = Field(1024, ge=1, description="ack=1 frames sent and not yet confirmed by the server.")
    receive_queue: int = Field(100_000, ge=1, description="ack=0 messages waiting for a callback before dropping.")
    heartbeat_interval: Duration = Field(1.0, gt=0, description="How often a silent server is asked whether it lives.")
    heartbeat_timeout: Annotated[Duration, _compared("heartbeat_interval", gt, "must be more than")] = Field(
        3.0, description="Silence after which the server counts as gone."
    )
    reconnect_min: Duration = Field(0.1, gt=0, description="Pause before the first attempt to connect again.")
    reconnect_max: Annotated[Duration, _compared("reconnect_min", ge, "must be at least")] = Field(
        5.0, description="Longest pause between two attempts to connect again."
    )


class Settings(_Model):
    """All settings of one YAML file."""

    server: ServerSettings = Field(default_factory=ServerSettings, description="The daemon.")
    client: ClientSettings = Field(default_factory=ClientSettings, description="Every process that talks to it.")

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        server: Mapping[str, object] | None = None,
        client: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read the settings: arguments win over the environment, that over the YAML file, that over the defaults.

        Args:
            path: The YAML file. Without it, the first of these that is there: the one that ``$MEZZENGER_CONFIG``
                names, ``mezzenger.yaml``, ``~/.config/mezzenger/mezzenger.yaml``, ``/etc/mezzenger/mezzenger.yaml``.
            server: Keys of the server section, as from the command line; ``None`` means not given.
            client: Keys of the client section, likewise.
            environ: Variables such as ``MEZZENGER_SERVER__PUB_PORT``; those of this process if not given.

        Raises:
            ConfigurationError: A named file cannot be read, or something in these sources is wrong.
        """
        environ = os.environ if environ is None else environ
        given = [
            *_from_file(*_find_file(path, environ)),
            *_from_environment(environ),
            *_from_arguments("server", server or {}),
            *_from_arguments("client", client or {}),
        ]
        values, origins = _merge(given)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigurationError(_problems(error, origins)) from None


_SECTIONS: Final[Mapping[str, type[_Model]]] = {"server": ServerSettings, "client": ClientSettings}


class _Given(NamedTuple):
    """One value and where it was written; without a key, a section that was mentioned."""

    section: str
    key: str | None
    value: object
    origin: str


def _merge(given: Iterable[_Given]) -> tuple[dict[str, dict[str, object]], dict[tuple[str, ...], str]]:
    """Return the values, later ones winning, and the origin of each section and key."""
    values: dict[str, dict[str, object]] = {}
    origins: dict[tuple[str, ...], str] = {}
    for section, key, value, origin in given:
        keys = values.setdefault(section, {})
        origins.setdefault((section,), origin)
        if key is not None:
            keys[key] = value
            origins[section, key] = origin
    return values, origins


def _from_arguments(section: str, arguments: Mapping[str, object]) -> Iterator[_Given]:
    for key, value in arguments.items():
        if value is not None:
            yield _Given(section, key, value, "argument")


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Given]:
    # Not by pydantic-settings: it does not tell which variable a value came from, and passes over misspelt sections.
    for name, value in environ.items():
        section, separator, key = name.removeprefix(_PREFIX).lower().partition("__")
        if name.startswith(_PREFIX) and section and separator:
            yield _Given(section, key, value, f"environment {name}")


def _find_file(path: str | Path | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return a file's name and text; both empty if none is named and none is in the usual places."""
    if path is not None:
        return str(path), _read(str(path))
    if named := environ.get(_FILE_VARIABLE):
        return named, _read(named, f"environment {_FILE_VARIABLE}: ")
    for place in _PLACES:
        # Unlike their twins in pathlib, these two never raise: there may be no home, or none that we may enter.
        file = os.path.expanduser(place)  # noqa: PTH111
        if os.path.exists(file):  # noqa: PTH110
            return file, _read(file)
    return "", ""


def _read(file: str, prefix: str = "") -> str:
    try:
        return Path(file).read_text("utf-8-sig")
    except OSError as error:
        raise ConfigurationError([f"{prefix}{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigurationError([f"{prefix}{file}: is not UTF-8 text"]) from None


def _from_file(file: str, text: str) -> list[_Given]:
    """Return what the YAML text gives, with ``file:line`` as origin."""
    given: list[_Given] = []
    problems: list[str] = []
    for section, origin, body in _entries(file, "", _compose(file, text), problems):
        given.append(_Given(section, None, None, origin))
        if section in _SECTIONS:
            keys = _entries(file, section, body, problems)
            given += [_Given(section, key, _construct(place, node), place) for key, place, node in keys]
    if problems:
        raise ConfigurationError(problems)
    return given


def _compose(file: str, text: str) -> yaml.Node:
    """Parse the text to nodes, which know their lines, as the values made from them do not."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _invalid(f"{file}:{line}", error) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _invalid(f"{file}:{line}", error) from None
    return node or yaml.ScalarNode(_NULL, "")


def _invalid(origin: str, error: yaml.YAMLError | ValueError) -> ConfigurationError:
    if isinstance(error, yaml.MarkedYAMLError):
        reason = ", ".join(part for part in (error.context, error.problem) if part)
    else:
        reason = str(error).splitlines()[0]
    return ConfigurationError([f"{origin}: is not valid YAML: {reason}"])


def _entries(file: str, path: str, node: yaml.Node, problems: list[str]) -> Iterator[tuple[str, str, yaml.Node]]:
    """Yield key, origin and value of a mapping; note as a problem what is no mapping, and a key that is there twice."""
    if node.tag == _NULL:
        return
    if not isinstance(node, yaml.MappingNode):
        what = f"{path}: must hold keys with values" if path else "must hold sections, such as server: and client:"
        problems.append(f"{file}:{node.start_mark.line + 1}: {what}")
        return
    first_lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        origin = f"{file}:{line}"
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(f"{origin}: a key must be a word")
            continue
        key = key_node.value
        if key in first_lines:
            full = f"{path}.{key}" if path else key
            problems.append(f"{origin}: {full}: is set twice, first in line {first_lines[key]}")
            continue
        first_lines[key] = line
        yield key, origin, value_node


def _construct(origin: str, node: yaml.Node) -> object:
    try:
        value: object = yaml.SafeLoader("").construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise _invalid(origin, error) from None
    return value


def _problems(
    error: ValidationError, origins: Mapping[tuple[str, ...], str], section: tuple[str, ...] = ()
) -> list[str]:
    """Say in one line each what pydantic found; ``section`` is where in the settings it was looking."""
    return [_problem(details, origins, section) for details in error.errors(include_url=False)]


def _problem(details: ErrorDetails, origins: Mapping[tuple[str, ...], str], section: tuple[str, ...]) -> str:
    path = (*section, *map(str, details["loc"]))
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        text = _unknown_key(path)
    elif kind == "conflict":
        text = details["msg"]
        if path not in origins:  # The default of this key contradicts a value that was set: point at that one.
            text = f"{path[-1]} {text}"
            path = (*path[:-1], context["other"])
    else:
        words = {name: str(word).removesuffix(".0") for name, word in context.items()}
        text = _TEXTS[kind].format_map(words) if kind in _TEXTS else details["msg"]
        text = f"{text} (got {_shown(details['input'])})"
    return f"{origins.get(path, 'argument')}: {'.'.join(path)}: {text}"


def _unknown_key(path: tuple[str, ...]) -> str:
    *sections, key = path
    if sections:
        meant = {name: name for name in _SECTIONS[sections[0]].model_fields}
    else:
        # Who forgot the section wrote one of its keys.
        meant = {name: f"{section}.{name}" for section, model in _SECTIONS.items() for name in model.model_fields}
        meant |= {section: section for section in _SECTIONS}
    similar = get_close_matches(key, meant, n=1)
    return f"unknown key; did you mean {meant[similar[0]]}?" if similar else "unknown key"


def _shown(value: object) -> str:
    """Write a value as it stands in YAML, as far as that is short and plain."""
    if value is None or isinstance(value, int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    text = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "..."
    is_word = text.isprintable() and text.split() == [text]
    return text if is_word else repr(text)
