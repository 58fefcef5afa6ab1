"""What the parts of a server are told of its settings."""

from pathlib import Path

import pytest

from mezzenger.policy import Policy
from mezzenger.server.options import pending_limit, policies
from mezzenger.settings import ChannelResendSettings, ChannelSettings, ResendSettings, ServerSettings


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (ServerSettings(), 256 * 2**20),
        (ServerSettings(persist_file=Path("a.db")), 10 * 2**30),
        (ServerSettings(persist_file=Path("a.db"), max_pending_size=2**20), 2**20),
    ],
)
def test_the_limit_of_pending_bytes(settings: ServerSettings, limit: int) -> None:
    """What is set holds; otherwise a file may keep more than memory."""
    assert pending_limit(settings) == limit


def test_the_policy_without_channels() -> None:
    """The server's settings make the policy of all names; its limits of all messages are not those of one name."""
    resend = ResendSettings(initial=2, multiplier=3, max=4, jitter=0.5, max_attempts=6)
    server = ServerSettings(resend=resend, max_pending=7, max_pending_size=2**20, overflow="dead_letter")
    assert policies(server, {}).of("jobs") == Policy(2, 3, 4, 0.5, 6, None, 0, None, None, "dead_letter")


def test_a_channel_sets_all() -> None:
    """Each key of a channel is in the policy of its names."""
    resend = ChannelResendSettings(initial=2, multiplier=3, max=4, jitter=0.0, max_attempts=6)
    channel = ChannelSettings(resend=resend, ttl=7, delay=8, max_pending=9, max_pending_size=10, overflow="drop_oldest")
    policy = policies(ServerSettings(), {"jobs": channel}).of("jobs")
    assert policy == Policy(2, 3, 4, 0, 6, 7, 8, 9, 10, "drop_oldest")


def test_what_a_channel_does_not_set_is_the_servers() -> None:
    """Key by key, also within ``resend``."""
    server = ServerSettings(resend=ResendSettings(initial=2, max=30), overflow="block")
    channel = ChannelSettings(resend=ChannelResendSettings(max=40))
    policy = policies(server, {"jobs": channel}).of("jobs")
    assert (policy.resend_initial, policy.resend_max, policy.overflow) == (2, 40, "block")


def test_the_first_pattern_that_matches() -> None:
    """The order of the channels decides."""
    urgent = ChannelSettings(resend=ChannelResendSettings(max_attempts=3))
    found = policies(ServerSettings(), {"jobs.urgent": urgent, "jobs.>": ChannelSettings(ttl=3600)})
    names = ("jobs.urgent", "jobs.mail", "jobs", "other.mail")
    assert [(found.of(name).max_attempts, found.of(name).ttl) for name in names] == [
        (3, None),
        (20, 3600),
        (20, None),
        (20, None),
    ]
