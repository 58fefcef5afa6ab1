"""What both clients have in common: how they are made, what is checked before the engine is asked, and decorators."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol, Self, TypeVar

from mezzenger.channel import Channel, name_of
from mezzenger.client.batches import Item
from mezzenger.client.engine import Engine
from mezzenger.client.extras import check_timeout, extra_of
from mezzenger.client.handlers import Callback, Handler, check_callback
from mezzenger.client.memberships import check_concurrency, membership
from mezzenger.client.payloads import Payloads
from mezzenger.client.stats import ClientStats
from mezzenger.errors import ConfigurationError, MezzengerError
from mezzenger.message import Message
from mezzenger.patterns import check_pattern
from mezzenger.protocol.events import Delivery
from mezzenger.protocol.states import State
from mezzenger.protocol.subscriptions import Membership
from mezzenger.protocol.wire import Contents, Extra
from mezzenger.queues import check_group
from mezzenger.settings import ClientSettings, Settings

T = TypeVar("T")
R = TypeVar("R")
C = TypeVar("C", bound=Callback)

NO_ACK: Final = 0

Subscription = tuple[str, Handler, Membership | None]
"""What an engine is asked to subscribe to."""


class Decorator(Protocol):
    """Takes note of a callback, and returns it."""

    def __call__(self, callback: C, /) -> C:
        """Decorate it."""


class ChannelDecorator(Protocol[T]):
    """Takes note of a callback for messages of one type, and returns it."""

    def __call__(self, callback: Callable[[T, Message[T]], R], /) -> Callable[[T, Message[T]], R]:
        """Decorate it."""


def _check_alone(settings: object, arguments: Mapping[str, object]) -> None:
    """Refuse what is given beside settings; one that is what it is anyway cannot be told from one that is not given.

    Raises:
        ConfigurationError: Some are given, or the settings are none of a client.
    """
    if not isinstance(settings, ClientSettings):
        text = f"settings must be ClientSettings, not {type(settings).__name__}; of Settings, give settings.client"
        raise ConfigurationError([text])
    fields = ClientSettings.model_fields
    problems = [
        f"{key}: cannot be given beside settings; set it there: ClientSettings({key}={value!r}, ...)"
        for key, value in arguments.items()
        if value != fields[key].default
    ]
    if problems:
        raise ConfigurationError(problems)


class Client(ABC):
    """A client, whatever it waits with; what the parameters are is told where it is documented for its users."""

    _engine: Engine
    _payloads: Payloads
    _takes_coroutines: bool
    """Whether callbacks may be coroutine functions."""

    def __init__(
        self,
        server_address: str = "127.0.0.1",
        send_port: int = 7202,
        sub_port: int = 7201,
        send_timeout: float = 2.0,
        connection_retries: int = 5,
        auto_start: bool = True,
        verbose: bool = False,
        *,
        settings: ClientSettings | None = None,
    ) -> None:
        arguments: dict[str, Any] = {
            "server_address": server_address,
            "send_port": send_port,
            "sub_port": sub_port,
            "send_timeout": send_timeout,
            "connection_retries": connection_retries,
            "auto_start": auto_start,
            "verbose": verbose,
        }
        if settings is None:
            settings = ClientSettings(**arguments)
        else:
            _check_alone(settings, arguments)
        self.settings = settings
        self._registered: list[Subscription] = []
        """Of callbacks that are decorated, and not subscribed yet."""
        self._set_up(settings)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, or copied, as for a process that is spawned.

        Raises:
            MezzengerError: Always.
        """
        raise MezzengerError(
            "a client has connections of its own, and can be neither pickled nor copied; make a new one in the other "
            "process, with the same settings"
        )

    @abstractmethod
    def _set_up(self, settings: ClientSettings) -> None:
        """Make the engine, and what uses it."""

    @classmethod
    def from_config(cls, path: str | Path | None = None, **overrides: object) -> Self:
        """Make a client as the YAML file and the environment say; ``overrides`` are keys of the client section.

        Args:
            path: The YAML file. Without it, the first of these that is there: the one that ``$MEZZENGER_CONFIG``
                names, ``mezzenger.yaml``, ``~/.config/mezzenger/mezzenger.yaml``, ``/etc/mezzenger/mezzenger.yaml``.
            overrides: Such as ``server_address="10.0.0.5"``.

        Raises:
            ConfigurationError: A setting is wrong.
            ServerUnreachable: No server answered in time; an ``AsyncMezzenger`` connects later, and raises it then.
        """
        return cls(settings=Settings.load(path, client=overrides).client)

    def stopped(self) -> bool:
        """Whether ``stop()`` was called."""
        return self._engine.is_stopping

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._engine.state

    @property
    def stats(self) -> ClientStats:
        """What was counted so far."""
        return self._engine.stats

    # What the engine is asked, checked; for who inherits.

    def _letter(
        self,
        msg_name: str | Channel[Any],
        payload: object,
        ack: int,
        headers: Mapping[str, str] | None,
        ttl: float | None,
        delay: float | None,
    ) -> tuple[str, Item, int, int, Extra]:
        self._engine.check_usable()
        outlet = self._payloads.outlet(msg_name)
        item = (time.time(), outlet.encode(payload))
        return outlet.name, item, outlet.codec, ack, extra_of(ack, headers, ttl, delay)

    def _batches(
        self,
        msg_name: str | Channel[Any],
        payloads: Iterable[object],
        ack: int,
        headers: Mapping[str, str] | None,
        ttl: float | None,
        delay: float | None,
    ) -> tuple[str, Iterator[bytes], int, int, Extra]:
        self._engine.check_usable()
        outlet = self._payloads.outlet(msg_name)
        extra = extra_of(ack, headers, ttl, delay)
        return outlet.name, map(outlet.encode, payloads), outlet.codec, ack, extra

    def _question(
        self, msg_name: str | Channel[Any], payload: object, timeout: float | None, headers: Mapping[str, str] | None
    ) -> tuple[str, Item, int, Extra, float | None]:
        self._engine.check_usable()
        outlet = self._payloads.outlet(msg_name)
        timeout = check_timeout(timeout)
        item = (time.time(), outlet.encode(payload))
        return outlet.name, item, outlet.codec, extra_of(0, headers, None, None), timeout

    def _answer(self, contents: Contents) -> object:
        return self._payloads.reader(Delivery(contents, 1, None))(0).payload

    def _subscription(
        self,
        msg_name: str | Channel[Any],
        callback: Callback,
        group: str | None,
        prefetch: int,
        max_runtime: float | None,
        order_by: str | None,
        concurrency: int = 1,
    ) -> Subscription:
        channel = msg_name if isinstance(msg_name, Channel) else None
        name = check_pattern(name_of(msg_name))
        check_callback(name, callback, takes_coroutines=self._takes_coroutines)
        handler = self._new_handler(callback, channel, check_concurrency(concurrency))
        return name, handler, membership(group, prefetch, max_runtime, order_by)

    def _new_handler(self, callback: Callback, channel: Channel[Any] | None, concurrency: int) -> Handler:
        """Make what is done with the messages of a subscription."""
        return Handler(callback, channel, concurrency)

    def _place(self, msg_name: str | Channel[Any], group: str | None) -> tuple[str, str | None]:
        """Return the name and the group of a subscription."""
        return check_pattern(name_of(msg_name)), None if group is None else check_group(group)

    def _registering(self, subscribe: Callable[[Callback], Subscription]) -> ChannelDecorator[Any]:
        """Return what decorates callbacks that are to be subscribed later, as ``subscribe`` says."""

        def register(callback: Callable[[Any, Message[Any]], R]) -> Callable[[Any, Message[Any]], R]:
            self._registered.append(subscribe(callback))
            return callback

        return register
