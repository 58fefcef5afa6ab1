"""Channels: settings for the names that match a pattern."""

import copy
import pickle

import pytest

from mezzenger.errors import ConfigurationError
from mezzenger.server.server import MezzengerServer
from mezzenger.settings import ChannelResendSettings, ChannelSettings, ResendSettings, ServerSettings, Settings
from tests.settings.sources import SIZE_RULE, construct, problems_of_variables, problems_of_yaml, write

YAML = """
channels:
  jobs.urgent:
    resend: {initial: 100ms, max_attempts: 3}
    overflow: block
  jobs.>: {ttl: 1h, delay: 5s, max_pending: 10, max_pending_size: 1MiB}
  "*":
"""


def test_what_is_written_holds() -> None:
    """Each channel has what the file says, in the file's order, and the rest is left to the server's settings."""
    loaded = Settings.load(write(YAML), environ={})
    assert list(loaded.channels.items()) == [
        ("jobs.urgent", ChannelSettings(resend=ChannelResendSettings(initial=0.1, max_attempts=3), overflow="block")),
        ("jobs.>", ChannelSettings(ttl=3600, delay=5, max_pending=10, max_pending_size=2**20)),
        ("*", ChannelSettings()),
    ]


@pytest.mark.parametrize("text", ["channels:\n", "channels: {}\n"])
def test_there_need_not_be_any(text: str) -> None:
    """Without channels the server's settings hold for all names."""
    assert Settings.load(write(text), environ={}) == Settings()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("channels: 5\n", "1: channels: must hold keys with values"),
        ("channels:\n  jobs: 5\n", "2: channels.jobs: must hold keys with values"),
        ("channels:\n  jobs:\n    resend: []\n", "3: channels.jobs.resend: must hold keys with values"),
        ("channels:\n  a.*: {}\n  b: {}\n  a.*: {}\n", "4: channels.'a.*': is set twice, first in line 2"),
        (
            "channels:\n  a:\n    resend:\n      max: 1\n      max: 2\n",
            "5: channels.a.resend.max: is set twice, first in line 4",
        ),
        ("channels:\n\n  '': {}\n", "3: channels.'': a pattern must not be empty"),
        ("channels:\n  a.*:\n    tll: 1h\n", "3: channels.'a.*'.tll: unknown key; did you mean ttl?"),
        ("channels:\n  a:\n    resend_max: 1h\n", "3: channels.a.resend_max: unknown key; did you mean resend.max?"),
        ("channels:\n  a:\n    ttl: 0\n", "3: channels.a.ttl: must be more than 0 (got 0)"),
        ("channels:\n  a:\n    delay: -1s\n", "3: channels.a.delay: must not be negative (got -1s)"),
        ("channels:\n  a:\n    ttl: 11575d\n", "3: channels.a.ttl: must be at most 1000000000 (got 11575d)"),
        ("channels:\n  a:\n    delay: 11575d\n", "3: channels.a.delay: must be at most 1000000000 (got 1000080000)"),
        ("channels:\n  a:\n    max_pending: 0\n", "3: channels.a.max_pending: must be at least 1 (got 0)"),
        ("channels:\n  a:\n    max_pending: yes\n", "3: channels.a.max_pending: must be a number (got true)"),
        ("channels:\n  a:\n    max_pending_size: 5M\n", f"3: channels.a.max_pending_size: {SIZE_RULE} (got 5M)"),
        (
            "channels:\n  a:\n    overflow: wait\n",
            "3: channels.a.overflow: must be 'reject', 'drop_oldest', 'dead_letter' or 'block' (got wait)",
        ),
        (
            "channels:\n  a:\n    resend:\n      multiplier: on\n",
            "4: channels.a.resend.multiplier: must be a number (got true)",
        ),
        ("channels:\n  a:\n    groups: x\n", "3: channels.a.groups: must be a list (got x)"),
        ("channels:\n  a:\n    groups: {x: y}\n", "3: channels.a.groups: must be a list (got a dict)"),
        ("channels:\n  a.*:\n    groups: [b, 5]\n", "3: channels.'a.*'.groups: must be text (got 5)"),
        (
            "channels:\n  a:\n    groups:\n      - b\n      - ''\n",
            "3: channels.a.groups: a group's name must not be empty (got '')",
        ),
        ("channels:\n  a:\n    resend:\n      jitter: 2\n", "4: channels.a.resend.jitter: must be at most 1 (got 2)"),
    ],
)
def test_a_mistake(text: str, problem: str) -> None:
    """Each mistake is told with its line and its full key."""
    assert problems_of_yaml(text) == [f"mezzenger.yaml:{problem}"]


@pytest.mark.parametrize("name", ["CHANNELS__JOBS", "CHANNELS__JOBS__TTL", "CHANNELS__"])
def test_variables_cannot_set_them(name: str) -> None:
    """Who tries is told where to write them, also if the file has channels."""
    write("channels: {jobs: {}}\n")
    assert problems_of_variables(**{name: "1h"}) == [
        f"environment MEZZENGER_{name}: channels: must be set in the YAML file; a variable cannot do it"
    ]


@pytest.mark.parametrize(
    ("server", "channel", "problem"),
    [
        ("", "initial: 2m", "initial: must be at most server.resend.max (got 120 and 60)"),
        ("", "max: 500ms", "max: must be at least server.resend.initial (got 0.5 and 1)"),
        ("max: 3s", "initial: 4s", "initial: must be at most server.resend.max (got 4 and 3)"),
        ("", "initial: 4s\n      max: 3s", "max: must be at least initial (got 3 and 4)"),
    ],
)
def test_the_longest_pause_is_at_least_the_first(server: str, channel: str, problem: str) -> None:
    """What is merged must fit, and the line is one of the channel."""
    text = f"server:\n  resend: {{{server}}}\nchannels:\n  jobs.*:\n    resend:\n      {channel}\n"
    line = 6 + channel.count("\n")
    assert problems_of_yaml(text) == [f"mezzenger.yaml:{line}: channels.'jobs.*'.resend.{problem}"]


def test_each_channel_is_compared() -> None:
    """A second channel that does not fit does not wait for the repair of the first."""
    text = "channels:\n  a: {resend: {max: 0.5}}\n  b: {}\n  c: {resend: {max: 0.6}}\n"
    assert [problem.split(" ")[0] for problem in problems_of_yaml(text)] == ["mezzenger.yaml:2:", "mezzenger.yaml:4:"]


@pytest.mark.parametrize("resend", [{"initial": 60}, {"max": 1}, {"initial": 100, "max": 100}])
def test_pauses_that_fit(resend: dict[str, float]) -> None:
    """The two pauses may be equal, and both may be beyond those of the server."""
    assert Settings.model_validate({"channels": {"jobs": {"resend": resend}}}).channels["jobs"].resend


def test_nothing_is_compared_with_a_wrong_value() -> None:
    """While the server's pauses are wrong, those of channels are not compared with them."""
    (problem,) = problems_of_yaml("server: {resend: {max: x}}\nchannels: {jobs: {resend: {initial: 2m}}}\n")
    assert problem.startswith("mezzenger.yaml:1: server.resend.max: ")


def test_a_server_made_in_python() -> None:
    """MezzengerServer refuses channels that do not fit its settings, and patterns that are none."""
    late = ChannelSettings(resend=ChannelResendSettings(max=4))
    with pytest.raises(ConfigurationError) as pauses:
        MezzengerServer(ServerSettings(resend=ResendSettings(initial=5)), {"jobs": late})
    with pytest.raises(ConfigurationError) as pattern:
        MezzengerServer(channels={"": ChannelSettings()})
    assert pauses.value.problems == [
        "argument: channels.jobs.resend.max: must be at least server.resend.initial (got 4 and 5)"
    ]
    assert pattern.value.problems == ["argument: channels.'': a pattern must not be empty"]


def test_constructors() -> None:
    """The constructors raise our error with the key."""
    with pytest.raises(ConfigurationError) as channel:
        ChannelSettings(max_pending=0)
    with pytest.raises(ConfigurationError) as resend:
        construct(ChannelResendSettings, initail=1)
    with pytest.raises(ConfigurationError) as groups:
        ChannelSettings(groups=("a", ""))
    with pytest.raises(ConfigurationError) as key:
        construct(Settings, channels={5: {}})
    assert groups.value.problems == ["argument: channel.groups: a group's name must not be empty (got '')"]
    assert key.value.problems == ["argument: channels.5: must be text"]
    assert channel.value.problems == ["argument: channel.max_pending: must be at least 1 (got 0)"]
    assert resend.value.problems == ["argument: channel.resend.initail: unknown key; did you mean initial?"]


def test_nothing_changes_later() -> None:
    """Neither the mapping that was given nor the settings can be used to change them."""
    given = {"jobs": ChannelSettings()}
    settings = Settings(channels=given)
    given.clear()
    assert list(settings.channels) == ["jobs"]
    with pytest.raises(TypeError):
        settings.channels["mail"] = ChannelSettings()  # type: ignore[index]  # that it is refused is the point
    with pytest.raises(ValueError, match="frozen"):
        setattr(settings.channels["jobs"], "ttl", 5)  # noqa: B010  # a type checker refuses the plain assignment


def test_settings_are_values() -> None:
    """Settings with channels can be compared, be keys, be copied, pickled and dumped."""
    settings, same = (Settings.load(write(YAML), environ={}) for _ in range(2))
    assert settings == same
    assert hash(settings) == hash(same)
    assert copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings)) == settings
    assert Settings.model_validate(settings.model_dump()) == settings
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert "'jobs.urgent': ChannelSettings(" in repr(settings)


def test_the_order_counts() -> None:
    """The same channels in another order are other settings."""
    one, other = ChannelSettings(ttl=1), ChannelSettings(ttl=2)
    assert Settings(channels={"a": one, "*": other}) != Settings(channels={"*": other, "a": one})
