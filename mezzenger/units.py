"""Durations and sizes as people write them: ``30s``, ``64MiB``."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

# Of more digits Python may refuse to make a number.
_AMOUNT: Final = re.compile(r"(-?[0-9]{1,60}(?:\.[0-9]{1,60})?)\s*([A-Za-z]*)")

# Decimals, for a float would turn 1.1kB into 1100.0000000000002 bytes, which is no whole number.
_SECONDS: Final = {"": 1, "ms": Decimal("0.001"), "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: Final = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _with_unit(units: Mapping[str, Decimal | int], rule: str) -> BeforeValidator:
    """Turn text such as ``30s`` into a number; leave the rest to pydantic."""

    def convert(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            number: float = value
        else:
            match = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
            if match is None or match[2] not in units:
                raise ValueError(rule)
            scaled = Decimal(match[1]) * units[match[2]]
            number = int(scaled) if scaled == int(scaled) else float(scaled)
        # Not as a constraint beside this validator: it would replace the lower bound that a field sets itself.
        if number < 0:
            raise ValueError("must not be negative")
        return number

    return BeforeValidator(convert)


Duration = Annotated[
    float,
    Field(allow_inf_nan=False),
    _with_unit(_SECONDS, "must be a number of seconds, or one with a unit such as 500ms, 30s, 5m, 2h or 1d"),
]
"""Seconds; also read from text such as ``500ms``, ``30s``, ``5m``, ``2h`` or ``1d``."""

Size = Annotated[
    int,
    _with_unit(_BYTES, "must be a number of bytes, or one with a unit such as 10kB, 64KiB, 64MiB or 1GiB"),
]
"""Bytes; also read from text such as ``10kB``, ``64KiB``, ``64MiB`` or ``1GiB``."""
