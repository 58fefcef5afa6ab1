"""The settings: what can be set, which values it may have, and what it is if nobody sets it."""

import os
import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from operator import ge, gt, ne
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator

from mezzenger.errors import ConfigurationError
from mezzenger.policy import Overflow
from mezzenger.settings.channels import Channels, contradiction
from mezzenger.settings.outline import outline_of
from mezzenger.settings.problems import problems_of
from mezzenger.settings.resend import ResendSettings
from mezzenger.settings.section import Section, compared
from mezzenger.settings.sources import Gathered, find_file
from mezzenger.units import Duration, Size

_LARGEST: Final = 2**31 - 1
"""ZeroMQ keeps numbers in 31 bits, and times as milliseconds."""
_LONGEST: Final = 20 * 86_400
"""Seconds that are still fewer milliseconds than that."""
_MOST: Final = 10**9
"""Of what is multiplied before it is used."""


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


class ServerSettings(Section):
    """What the daemon needs to know."""

    _place = ("server",)

    bind: Host = Field("127.0.0.1", description="Address to listen on; loopback serves this machine only.")
    pub_port: int = Field(7201, ge=0, le=65535, description="Port that hands messages out; 0 takes any free port.")
    recv_port: Annotated[int, compared("pub_port", _can_both_be_bound, "must differ from")] = Field(
        7202, ge=0, le=65535, description="Port that takes messages in; 0 takes any free port."
    )
    # Empty text is how an argument or a variable takes back what the file sets.
    persist_file: Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)] = Field(
        None, description="File that keeps ack=1 messages across restarts; null keeps them in memory."
    )
    verbose: bool = Field(default=False, description="Log what the server sends, stores and settles.")
    max_message_size: Size = Field(
        64 * 2**20, ge=64 * 2**10, le=2**30, description="Largest message that is taken, from 64KiB to 1GiB."
    )
    max_pending: int | None = Field(
        None,
        ge=1,
        description="Unacknowledged messages kept at most, but for delayed ones; null is no limit but that of bytes.",
    )
    max_pending_size: Size | None = Field(
        None,
        ge=2**20,
        description="Bytes stored at most, delayed and dead ones too; null is 256MiB in memory, 10GiB in a file.",
    )
    overflow: Overflow = Field(
        "reject", description="What happens to a publish beyond these two: reject, drop_oldest, dead_letter or block."
    )
    max_dead_letters: int = Field(100_000, ge=0, description="Frames kept as dead letters at most; 0 keeps none.")
    max_retained: int = Field(10_000, ge=0, description="Names whose last message is kept at most, where one retains.")
    max_retained_size: Size = Field(64 * 2**20, ge=0, description="Bytes of these messages kept at most.")
    max_names: int = Field(
        100_000, ge=1, description="Names and patterns that one client may subscribe to, and groups that it may join."
    )
    max_requests: int = Field(
        10_000, ge=1, description="Requests of one client, or to one client, that are not answered yet."
    )
    max_groups: int = Field(10_000, ge=1, description="Groups that there may be at once.")
    max_peers: int = Field(10_000, ge=1, description="Clients that may be connected at once.")
    send_queue: int = Field(
        100_000, ge=1, le=_LARGEST, description="Frames queued for one subscriber; beyond it some are left out."
    )
    send_queue_size: Size = Field(
        256 * 2**20, ge=2**16, description="Bytes queued for one client's connection; beyond it that is given up."
    )
    credit: int = Field(
        4096, ge=1, le=_MOST, description="ack=1 frames sent to one subscriber and not yet acknowledged."
    )
    resend: ResendSettings = Field(
        default_factory=ResendSettings,
        description="How often an ack=1 message is sent again until it is acknowledged.",
    )
    heartbeat_interval: Duration = Field(
        1.0, gt=0, le=_LONGEST, description="How often a silent client is asked whether it lives."
    )
    heartbeat_timeout: Annotated[Duration, compared("heartbeat_interval", gt, "must be more than")] = Field(
        3.0, le=_LONGEST, description="How long its answer may take; after that it counts as gone."
    )
    drain_timeout: Duration = Field(5.0, description="How long a stop waits for what is under way.")


class ClientSettings(Section):
    """What a process that sends and subscribes needs to know."""

    _place = ("client",)

    server_address: Host = Field("127.0.0.1", description="Host name or address of the server.")
    send_port: int = Field(7202, ge=1, le=65535, description="The server's recv_port.")
    sub_port: Annotated[int, compared("send_port", ne, "must differ from")] = Field(
        7201, ge=1, le=65535, description="The server's pub_port."
    )
    send_timeout: Duration = Field(
        2.0, gt=0, le=_LONGEST, description="How long one attempt to send waits for the server."
    )
    connection_retries: int = Field(
        5, ge=0, le=_MOST, description="Further attempts before ServerUnreachable is raised."
    )
    auto_start: bool = Field(default=True, description="Start to receive at once, without a call of start().")
    verbose: bool = Field(default=False, description="Log what is sent and what is received.")
    codec: Literal["pickle", "msgpack", "json", "raw"] = Field(
        "pickle", description="How payloads are written: pickle, msgpack, json or raw."
    )
    allow_pickle: Literal["loopback", "always", "never"] = Field(
        "loopback", description="Servers whose pickled payloads are un-pickled: loopback, always or never."
    )
    window: int = Field(1024, ge=1, description="ack=1 frames sent and not yet confirmed by the server.")
    receive_queue: int = Field(
        100_000, ge=1, le=_LARGEST, description="ack=0 messages waiting for a callback before dropping."
    )
    heartbeat_interval: Duration = Field(
        1.0, gt=0, le=_LONGEST, description="How often a silent server is asked whether it lives."
    )
    heartbeat_timeout: Annotated[Duration, compared("heartbeat_interval", gt, "must be more than")] = Field(
        3.0, le=_LONGEST, description="How long its answer may take; after that it counts as gone."
    )
    reconnect_min: Duration = Field(0.1, gt=0, description="Pause before the first attempt to connect again.")
    reconnect_max: Annotated[Duration, compared("reconnect_min", ge, "must be at least")] = Field(
        5.0, description="Longest pause between two attempts to connect again."
    )


class Settings(Section):
    """All settings of one YAML file."""

    server: ServerSettings = Field(default_factory=ServerSettings, description="The daemon.")
    client: ClientSettings = Field(default_factory=ClientSettings, description="Every process that talks to it.")
    channels: Channels = Field(
        default_factory=dict, description="What differs for some names; the first pattern that matches one applies."
    )

    @field_validator("channels")
    @classmethod
    def _check_pauses(cls, channels: Channels, info: ValidationInfo) -> Channels:
        if "server" in info.data:
            resend = info.data["server"].resend
            found = (contradiction(pattern, channel, resend) for pattern, channel in channels.items())
            if wrong := [details for details in found if details is not None]:
                # Any other error would be one of all channels, without the path of the key.
                raise ValidationError.from_exception_data("channels", wrong)
        return channels

    @staticmethod
    def find_file(path: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Path | None:
        """Return the YAML file that ``load`` reads, with its folder; None if there is none."""
        file = find_file(path, os.environ if environ is None else environ)
        return None if file is None else Path(file).absolute()

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
        outline = outline_of(cls)
        given = Gathered(outline)
        given.add_file(path, environ)
        given.add_environment(environ)
        given.add_arguments({"server": server or {}, "client": client or {}})
        if given.problems:
            raise ConfigurationError(given.problems)
        try:
            return cls.model_validate(given.values)
        except ValidationError as error:
            raise ConfigurationError(problems_of(error, outline, given.origins)) from None
