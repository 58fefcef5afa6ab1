"""The fixtures work for anybody who has installed Mezzenger, without any line of configuration."""

import pytest

from mezzenger import State
from mezzenger.testing import LocalServer

pytest_plugins = ["pytester"]

# The option is one of which pytest-asyncio warns as long as it is not set.
OPTIONS = ("-W", "error", "-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")

MEMORY = """
def test_in_memory(mezzenger_memory, mezzenger_memory_client):
    seen = []
    mezzenger_memory_client.subscribe("greetings", lambda payload, msg: seen.append(payload))
    mezzenger_memory.client().send_message("greetings", "Hello!", ack=1)
    mezzenger_memory.settle()
    assert seen == ["Hello!"]

def test_another_one(mezzenger_memory):
    assert mezzenger_memory.stats().names == 0
"""

SERVER = """
import queue
from mezzenger import Mezzenger

def test_with_sockets(mezzenger_server, mezzenger_client):
    arrived = queue.Queue()
    mezzenger_client.subscribe("greetings", lambda payload, msg: arrived.put(payload))
    mezzenger_server.client().send_message("greetings", "Hello!", ack=1)
    assert arrived.get(timeout=30) == "Hello!"
    assert mezzenger_server.stats().stored == 1

def test_from_config(mezzenger_server):
    with Mezzenger.from_config() as mc:
        mc.send_message("greetings", "Hello!", ack=1)
    assert mezzenger_server.stats().stored == 1
"""

SETTINGS = """
import pytest
from mezzenger import ChannelSettings, ClientSettings, ServerSettings, Settings

@pytest.fixture
def mezzenger_settings(tmp_path):
    return Settings(
        server=ServerSettings(pub_port=7201, persist_file=tmp_path / "messages.db", drain_timeout=0.5),
        channels={"news": ChannelSettings(ttl=10)},
        client=ClientSettings(codec="json"),
    )

def test_kept(mezzenger_memory, mezzenger_memory_client):
    assert mezzenger_memory_client.settings.codec == "json"
    mezzenger_memory_client.send_message("news", 1, ack=1)
    mezzenger_memory.crash_and_restart()
    mezzenger_memory.advance("5s")
    assert mezzenger_memory.stats().pending == 1
    mezzenger_memory.advance("6s")
    assert mezzenger_memory.stats().pending == 0

def test_chosen(mezzenger_server, mezzenger_client):
    assert mezzenger_client.settings.codec == "json"
    assert mezzenger_server.pub_port != 7201
    assert mezzenger_server.settings.drain_timeout == 0.5
    assert mezzenger_server.settings.persist_file.exists()
"""


@pytest.mark.parametrize(
    ("source", "passed"), [(MEMORY, 2), (SERVER, 2), (SETTINGS, 2)], ids=["memory", "server", "set"]
)
def test_the_fixtures_are_there(pytester: pytest.Pytester, source: str, passed: int) -> None:
    """They are found by themselves, each test has servers and clients of its own, and nothing is left behind."""
    pytester.makepyfile(source)
    pytester.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=passed)


ASYNCIO = """
import asyncio
import pytest

async def use(mezzenger_memory, mezzenger_memory_async_client, mezzenger_async_client):
    seen = []
    async with mezzenger_memory_async_client as mc:
        await mc.subscribe("greetings", lambda payload, msg: seen.append(payload))
        await mc.send_message("greetings", "Hello!", ack=1)
        await mezzenger_memory.settle()
        assert seen == ["Hello!"]
        await mezzenger_memory.advance("1h")
    async with mezzenger_async_client as mc:
        await mc.subscribe("double", lambda payload, msg: 2 * payload)
        assert await mc.request("double", 4) == 8

@pytest.mark.asyncio
async def test_with_pytest_asyncio(mezzenger_memory, mezzenger_memory_async_client, mezzenger_async_client):
    await use(mezzenger_memory, mezzenger_memory_async_client, mezzenger_async_client)

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_with_anyio(anyio_backend, mezzenger_memory, mezzenger_memory_async_client, mezzenger_async_client):
    await use(mezzenger_memory, mezzenger_memory_async_client, mezzenger_async_client)

def test_with_neither(mezzenger_memory, mezzenger_memory_async_client, mezzenger_async_client):
    asyncio.run(use(mezzenger_memory, mezzenger_memory_async_client, mezzenger_async_client))
"""


def test_asyncio(pytester: pytest.Pytester) -> None:
    """Clients for asyncio belong to the loop of the test, whoever runs that."""
    pytester.makepyfile(ASYNCIO)
    pytester.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=3)


LEFT = """
from mezzenger import Mezzenger

def test_a_program_that_does_not_stop_its_client(mezzenger_server):
    Mezzenger.from_config().subscribe("greetings", lambda payload, msg: None)
"""


def test_a_client_that_is_not_stopped(pytester: pytest.Pytester) -> None:
    """The run ends all the same, though a program goes on whose main thread has subscribed and ended."""
    pytester.makepyfile(LEFT)
    pytester.runpytest_subprocess(*OPTIONS, timeout=40).assert_outcomes(passed=1)


def test_clients_of_who_runs_pytest(pytester: pytest.Pytester) -> None:
    """A run within a program that has clients of its own stops none of these."""
    pytester.makepyfile(LEFT)
    with LocalServer() as server:
        client = server.client()
        client.subscribe("greetings", lambda _payload, _msg: None)
        # Without its warnings as errors, which would be of what other tests have left in this process.
        pytester.runpytest_inprocess(*OPTIONS[2:]).assert_outcomes(passed=1)
        assert client.state is State.OPEN
        assert server.stats().peers == 1


def test_the_fixtures_are_listed(pytester: pytest.Pytester) -> None:
    """Each with a line that says what it is."""
    result = pytester.runpytest_subprocess("--fixtures", *OPTIONS)
    result.stdout.fnmatch_lines(["mezzenger_memory -- *", "    A server in memory, *", "mezzenger_server -- *"])


def test_nothing_is_loaded_that_is_not_used(pytester: pytest.Pytester) -> None:
    """A run that does not use the fixtures loads the plugin and nothing else of Mezzenger."""
    pytester.makepyfile("""
        import sys

        def test_it():
            loaded = {name for name in sys.modules if name.startswith("mezzenger")}
            assert loaded == {"mezzenger", "mezzenger.pytest_plugin"}
    """)
    pytester.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=1)
