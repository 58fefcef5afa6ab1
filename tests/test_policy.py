"""Policies: how long pauses are, and which policy applies to a name."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mezzenger import policy as policy_module
from mezzenger.policy import Policies, Policy

POLICY = Policy(
    resend_initial=1.0,
    resend_multiplier=2.0,
    resend_max=60.0,
    resend_jitter=0.0,
    max_attempts=20,
    ttl=None,
    delay=0.0,
    max_pending=None,
    max_pending_size=None,
    overflow="reject",
)

POLICIES = st.builds(
    lambda initial, multiplier, longer, jitter: replace(
        POLICY,
        resend_initial=initial,
        resend_multiplier=multiplier,
        resend_max=initial + longer,
        resend_jitter=jitter,
    ),
    st.floats(1e-6, 1e6),
    st.floats(1, 1e9),
    st.floats(0, 1e6),
    st.floats(0, 1),
)


class TestPause:
    """The time between two attempts."""

    def test_pauses_grow_up_to_the_longest(self) -> None:
        """The first pause is the initial one, each one is longer by the multiplier, and none exceeds the longest."""
        assert [POLICY.pause(attempts, 0.5) for attempts in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]

    @pytest.mark.parametrize(("random", "pause"), [(0.0, 6.0), (0.25, 7.0), (0.5, 8.0), (1.0, 10.0)])
    def test_chance_makes_it_longer_or_shorter(self, random: float, pause: float) -> None:
        """The jitter is the part that chance may add or take away."""
        assert replace(POLICY, resend_jitter=0.25).pause(4, random) == pause

    def test_the_longest_pause_has_jitter_too(self) -> None:
        """Messages whose pauses have grown to the longest do not all come again at the same time."""
        policy = replace(POLICY, resend_jitter=0.1)
        assert (policy.pause(100, 0.0), policy.pause(100, 1.0)) == pytest.approx((54, 66))

    @pytest.mark.parametrize("attempts", [1100, 2**64, 10**400])
    def test_no_number_of_attempts_is_too_large(self, attempts: int) -> None:
        """Far beyond what a float can hold, the pause is the longest one."""
        assert POLICY.pause(attempts, 0.5) == 60

    def test_pauses_that_do_not_grow(self) -> None:
        """With a multiplier of 1 every pause is the initial one."""
        assert replace(POLICY, resend_multiplier=1.0).pause(2**64, 0.5) == 1

    @given(POLICIES, st.integers(1, 2**64), st.floats(0, 1))
    def test_it_stays_within_its_bounds(self, policy: Policy, attempts: int, random: float) -> None:
        """Whatever the settings, no pause is shorter than the shortest first one, or longer than the longest."""
        pause = policy.pause(attempts, random)
        assert policy.resend_initial * (1 - policy.resend_jitter) <= pause * (1 + 1e-12)
        assert pause <= policy.resend_max * (1 + policy.resend_jitter)

    @given(POLICIES, st.floats(0, 1))
    def test_it_never_shrinks(self, policy: Policy, random: float) -> None:
        """With the same chance, no pause is shorter than the one before."""
        pauses = [policy.pause(attempts, random) for attempts in range(1, 50)]
        assert all(longer >= shorter for shorter, longer in pairwise(pauses))


class TestPolicies:
    """Which policy a name has."""

    def test_without_rules_the_default_applies(self) -> None:
        """A name that nobody made rules for has the default."""
        assert Policies(POLICY).of("jobs") is POLICY

    def test_the_first_pattern_that_matches_applies(self) -> None:
        """The order of the rules decides, not how exact they are."""
        urgent, jobs, late = (replace(POLICY, max_attempts=number) for number in (1, 2, 3))
        policies = Policies(POLICY, [("jobs.urgent", urgent), ("jobs.>", jobs), ("jobs.late", late)])
        found = [policies.of(name) for name in ("jobs.urgent", "jobs.mail", "jobs.late", "jobs", "greetings")]
        assert found == [urgent, jobs, jobs, POLICY, POLICY]

    def test_it_is_found_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name is compared with the patterns once, and the answer stays the same."""
        compared = []

        def matches(pattern: str, name: str) -> bool:
            compared.append((pattern, name))
            return True

        monkeypatch.setattr(policy_module, "matches", matches)
        other = replace(POLICY, max_attempts=1)
        policies = Policies(POLICY, [("jobs.*", other)])
        assert [policies.of("jobs.mail") for _ in range(3)] == [other] * 3
        assert compared == [("jobs.*", "jobs.mail")]

    def test_it_does_not_remember_every_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Any number of names takes a bounded number of places, and the answers are right all the same."""
        monkeypatch.setattr(policy_module, "_REMEMBERED_NAMES", 10)
        other = replace(POLICY, max_attempts=1)
        policies = Policies(POLICY, [("jobs.*", other)])
        assert {policies.of(f"jobs.{number}") for number in range(100)} == {other}
        assert policies._remembered.cache_info().currsize == 10

    def test_rules_cannot_be_changed_later(self) -> None:
        """The list that the rules came from may be used for something else."""
        rules = [("jobs", replace(POLICY, max_attempts=1))]
        policies = Policies(POLICY, rules)
        rules.clear()
        assert policies.of("jobs").max_attempts == 1
