"""Patterns: message names in which wildcards may stand for tokens, the parts between the dots.

``*`` stands for exactly one token, ``>`` at the end for all that follow, one at least. So ``jobs.*`` matches
``jobs.mail``; ``jobs.>`` matches that and ``jobs.mail.urgent``; neither matches ``jobs``. A pattern without wildcards
matches the name that is written the same.
"""

from typing import Final

from mezzenger.message import check_characters

ONE: Final = "*"
REST: Final = ">"


def check_pattern(pattern: str) -> str:
    """Return ``pattern``, as a plain ``str``, if it can match a name.

    Raises:
        InvalidName: It is not a ``str``, is empty, is over 255 bytes of UTF-8, or holds ``|`` or a control character.
    """
    return check_characters(pattern, "pattern")


def is_wild(pattern: str) -> bool:
    """Return whether a pattern has wildcards, and so may match any number of names."""
    if ONE not in pattern and not pattern.endswith(REST):
        return False
    tokens = pattern.split(".")
    return ONE in tokens or tokens[-1] == REST


def prefix_of(pattern: str) -> str:
    """Return what every name begins with that a pattern matches, as far as that is known from whole tokens."""
    if not is_wild(pattern):
        return pattern
    tokens = pattern.split(".")
    wild = tokens.index(ONE) if ONE in tokens else len(tokens) - 1
    return "".join(f"{token}." for token in tokens[:wild])


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern, as ``check_pattern`` takes it, matches a message name."""
    wanted, tokens = pattern.split("."), name.split(".")
    if wanted[-1] == REST:
        wanted.pop()
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(tokens) == len(wanted) and all(want in {ONE, token} for want, token in zip(wanted, tokens, strict=True))
