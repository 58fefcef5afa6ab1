"""The two clients have the same names, parameters, defaults and words, but for what is stated here."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from mezzenger import AsyncMezzenger, ClientSettings, ConfigurationError, Mezzenger
from mezzenger.client.dead import AsyncDeadLetters, DeadLetters
from mezzenger.client.groups import AsyncGroups, Groups
from mezzenger.client.retained import AsyncRetainedMessages, RetainedMessages

PAIRS: Final = [
    (Mezzenger, AsyncMezzenger),
    (DeadLetters, AsyncDeadLetters),
    (Groups, AsyncGroups),
    (RetainedMessages, AsyncRetainedMessages),
]

ONLY_ASYNC: Final = {"messages"}
"""Names that the asyncio client has, and the other one has not."""

ONLY_ASYNC_PARAMETERS: Final = {"subscribe": {"concurrency"}, "on": {"concurrency"}}

NOT_AWAITED: Final = {"from_config", "list", "messages", "on", "running", "state", "stats", "stopped"}
"""What waits for nothing, or is iterated over or entered instead."""

OTHER_WORDS: Final[dict[str, list[tuple[str, str]]]] = {
    "Mezzenger": [
        (
            """
            for sending and subscribing. Any thread may use it; a forked process may not. Call ``stop()`` at the
            end, or use it as a context manager. After that
            """,
            """
            for sending and subscribing, of one asyncio loop, whose tasks may all use it. It connects when it is
            awaited, or entered as a context manager: ``async with AsyncMezzenger() as mc``. Call ``stop()`` at the
            end, if it is not used as one. After that
            """,
        ),
        (
            """
            they raise ``UsedAfterFork``. No signal handler may use it, for it may have interrupted it: there raise
            ``SystemExit``, or set an event for which another thread waits.
            """,
            """
            they raise ``UsedAfterFork``, in another loop ``UsedInAnotherLoop``. Whatever is cancelled has a note at
            its ``CancelledError`` that says what came of it. A message with ``ack=1`` that was sent is waited for
            all the same, until the server has stored it, and no longer than without; one that was not sent is not
            sent any more. Cancelled twice, it is given up.
            """,
        ),
        (
            "If not, no thread is started, sending",
            "If not, sending",
        ),
        (
            "ServerUnreachable: No server answered",
            "ServerUnreachable: When it connects: no server answered",
        ),
        (
            "Rejected: The server",
            "Rejected: Likewise: the server",
        ),
    ],
    "subscribe": [
        (
            """
            Callbacks run one at a time, on a thread of their own; they may use this client. A message with
            ``ack=1`` is acknowledged after its callback has returned; if it raises, the message comes again later.
            """,
            """
            Callbacks are tasks of the loop, ``concurrency`` of them at a time; they may use this client. A message
            with ``ack=1`` is acknowledged after its callback has returned; if it raises, or is cancelled, the
            message comes again later. While callbacks are busy the server sends no more than its credit, or
            ``prefetch``.
            """,
        ),
        (
            "and the ``Message``. Without a",
            "and the ``Message``; a function or a coroutine function. Without a",
        ),
        (
            "must say the same.",
            """
            must say the same. concurrency: How many messages of this subscription are handled at once; with more
            than one, they are not handled in order.
            """,
        ),
        (
            "with two arguments, or is a coroutine function.",
            "with two arguments.",
        ),
    ],
    "request": [
        (
            "but this client itself, which has one thread for callbacks.",
            "but that callback itself, or others of its subscription.",
        ),
    ],
    "start": [
        (
            "Begin to receive,",
            "Connect, begin to receive,",
        ),
    ],
    "stop": [
        (
            "when that callback has returned.",
            """
            when that callback has returned. If this is cancelled, the callbacks that run are cancelled, too.
            """,
        ),
    ],
}
"""What the docstring of the one says, and what that of the other says instead; where lines end is of no interest."""


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def members(kinds: list[tuple[type, type]]) -> Iterator[Any]:
    for kind, other in kinds:
        for name in sorted(public(kind)):
            yield pytest.param(kind, other, name, id=f"{kind.__name__}.{name}")


def words(text: str | None) -> list[str]:
    """Return a docstring's words; where lines end is of no interest."""
    return (text or "").split()


def with_other_words(name: str, text: str | None) -> list[str]:
    """Return a docstring's words as the asyncio client would have them."""
    said = " ".join(words(text))
    for change in OTHER_WORDS.get(name, []):
        before, after = (" ".join(words(part)) for part in change)
        assert said.count(before) == 1, before
        said = said.replace(before, after)
    return said.split()


@pytest.mark.parametrize(("kind", "other"), PAIRS)
def test_the_names_are_the_same(kind: type, other: type) -> None:
    """Both have the same public names, and say the same of themselves."""
    assert public(other) - public(kind) == (ONLY_ASYNC if other is AsyncMezzenger else set())
    assert public(kind) <= public(other)
    assert with_other_words(kind.__name__, inspect.getdoc(kind)) == words(inspect.getdoc(other))


def test_they_are_made_alike() -> None:
    """The constructors take the same."""
    assert inspect.signature(Mezzenger) == inspect.signature(AsyncMezzenger)
    defaults = {key: field.default for key, field in ClientSettings.model_fields.items()}
    parameters = inspect.signature(Mezzenger).parameters.items()
    assert {key: taken.default for key, taken in parameters if key != "settings"}.items() <= defaults.items()


@pytest.mark.parametrize("kind", [Mezzenger, AsyncMezzenger])
def test_settings_are_given_alone(kind: Callable[..., object]) -> None:
    """An argument beside settings is an error, which says where it belongs; it is not ignored."""
    with pytest.raises(ConfigurationError) as caught:
        kind("10.0.0.5", send_port=7302, settings=ClientSettings(sub_port=7301))
    assert caught.value.problems == [
        f"{argument}: cannot be given beside settings; set it there: ClientSettings({there}, ...)"
        for argument, there in (("server_address", "server_address='10.0.0.5'"), ("send_port", "send_port=7302"))
    ]


@pytest.mark.parametrize(("kind", "other", "name"), [*members(PAIRS)])
def test_they_take_and_say_the_same(kind: type, other: type, name: str) -> None:
    """The parameters of each method have the same names, order, kinds, types and defaults; docstrings are the same."""
    mine, theirs = getattr(kind, name), getattr(other, name)
    assert with_other_words(name, inspect.getdoc(mine)) == words(inspect.getdoc(theirs))
    if not callable(mine):
        return
    expected = dict(inspect.signature(mine).parameters)
    found = dict(inspect.signature(theirs).parameters)
    for extra in ONLY_ASYNC_PARAMETERS.get(name, ()):
        found.pop(extra)
    assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize(("kind", "other", "name"), [*members(PAIRS)])
def test_what_waits_is_awaited(kind: type, other: type, name: str) -> None:
    """Each method that waits is a coroutine function of the one client, and a function of the other."""
    mine: Callable[..., object] = getattr(kind, name)
    theirs: Callable[..., object] = getattr(other, name)
    assert not inspect.iscoroutinefunction(mine)
    is_awaited = inspect.iscoroutinefunction(theirs)
    if name == "messages":
        # Of dead letters it waits; of a client it is there for the loop.
        assert is_awaited == (other is AsyncDeadLetters)
    elif name != "settings":
        assert is_awaited == (name not in NOT_AWAITED)
