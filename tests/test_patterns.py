"""Patterns: which texts are one, and which names they match."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mezzenger.errors import InvalidName
from mezzenger.message import MAX_NAME_BYTES, check_name
from mezzenger.patterns import check_pattern, matches

# Few and short tokens, so that patterns and names often agree; some are wildcards only by their looks.
TOKENS = st.sampled_from(["a", "b", "", "**", "a*", ">>", "a>"])
NAMES = st.lists(TOKENS, min_size=1, max_size=5).map(".".join).filter(bool)
PATTERNS = st.lists(TOKENS | st.sampled_from("*>"), min_size=1, max_size=5).map(".".join).filter(bool)


def reference(pattern: str, name: str) -> bool:
    """Match by a regular expression, as slowly as plainly."""
    *tokens, last = pattern.split(".")
    parts = [r"[^.]*" if token == "*" else re.escape(token) for token in tokens]
    parts.append({"*": r"[^.]*", ">": r".*"}.get(last, re.escape(last)))
    return re.fullmatch(r"\.".join(parts), name, re.DOTALL) is not None


@given(PATTERNS, NAMES)
def test_matches_as_a_regular_expression_would(pattern: str, name: str) -> None:
    """Of any pattern and any name it is known whether they match."""
    assert matches(pattern, name) == reference(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("jobs", "jobs"),
        ("jobs.mail", "jobs.mail"),
        ("*", "jobs"),
        ("jobs.*", "jobs.mail"),
        ("*.mail", "jobs.mail"),
        ("*.*", "jobs.mail"),
        ("jobs.*.urgent", "jobs.mail.urgent"),
        (">", "jobs"),
        (">", "jobs.mail"),
        ("jobs.>", "jobs.mail"),
        ("jobs.>", "jobs.mail.urgent"),
        ("*.>", "jobs.mail"),
        ("jobs.>.x", "jobs.>.x"),
    ],
)
def test_a_name_matches(pattern: str, name: str) -> None:
    """A star is one token, ``>`` at the end is one or more, and everything else is itself."""
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("jobs", "Jobs"),
        ("jobs", "jobs.mail"),
        ("jobs.mail", "jobs"),
        ("*", "jobs.mail"),
        ("jobs.*", "jobs"),
        ("jobs.*", "jobs.mail.urgent"),
        ("jobs*", "jobsmail"),
        ("jobs.m*", "jobs.mail"),
        ("jobs.>", "jobs"),
        ("jobs.>", "mail.jobs"),
        ("jobs>", "jobs.mail"),
        ("jobs.>.x", "jobs.mail.x"),
        ("*.>", "jobs"),
        ("jobs.m.l", "jobs.mol"),
    ],
)
def test_a_name_does_not_match(pattern: str, name: str) -> None:
    """A wildcard is a whole token, and stands for no fewer and no more tokens than it says."""
    assert not matches(pattern, name)


@given(NAMES)
def test_each_name_is_a_pattern_that_matches_itself(name: str) -> None:
    """Whoever needs no wildcards writes the name."""
    assert matches(check_pattern(check_name(name)), name)


@pytest.mark.parametrize("pattern", ["*", ">", "jobs.*", "*.>", "jobs.>.x", "ж.*", "a" * (MAX_NAME_BYTES - 2) + ".*"])
def test_a_pattern_is_taken(pattern: str) -> None:
    """A pattern is returned as it is, wildcards, other letters and the greatest length included."""
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (5, "a pattern must be a str, not int: 5"),
        ("", "a pattern must not be empty"),
        ("a|*", "pattern 'a|*' holds '|', which separates the name from the rest; use another character"),
        ("*.\n", r"pattern '*.\n' holds the control character '\n'; remove it"),
        ("\ud800.*", r"pattern '\ud800.*' cannot be written as UTF-8"),
        ("ж" * 127 + ".*", f"pattern '{'ж' * 20}'... is 256 bytes of UTF-8; at most 255 are allowed"),
    ],
)
def test_a_pattern_is_refused(pattern: Any, text: str) -> None:
    """What could not be in a name cannot be in a pattern, and the error says what to do."""
    with pytest.raises(InvalidName) as caught:
        check_pattern(pattern)
    assert str(caught.value) == text
