"""Durations and sizes, read from numbers and from text with a unit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mezzenger.units import Duration, Size

DURATION: TypeAdapter[float] = TypeAdapter(Duration)
SIZE: TypeAdapter[int] = TypeAdapter(Size)

DURATION_RULE = "must be a number of seconds, or one with a unit such as 500ms, 30s, 5m, 2h or 1d"
SIZE_RULE = "must be a number of bytes, or one with a unit such as 10kB, 64KiB, 64MiB or 1GiB"


def complaint(adapter: TypeAdapter[float] | TypeAdapter[int], value: object) -> str:
    """Return what is said about a value that is refused."""
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python(value)
    (error,) = caught.value.errors()
    return error["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (0, 0.0),
        (3, 3.0),
        (0.25, 0.25),
        ("3", 3.0),
        ("500ms", 0.5),
        ("0.5ms", 0.0005),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        (" 30 s ", 30.0),
    ],
)
def test_a_duration_is_seconds(written: object, seconds: float) -> None:
    """A number counts seconds, and a unit scales it."""
    value = DURATION.validate_python(written)
    assert value == seconds
    assert type(value) is float


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "5x",
        "5M",
        "30S",
        "1e3",
        "1_000",
        "5 parsecs",
        "1m30s",
        ".5s",
        "5.s",
        "inf",
        "nan",
        "٣s",
        f"1{'0' * 6000}s",
        None,
        True,
        [],
    ],
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    """Anything else is refused, and the text shows how to write one."""
    assert complaint(DURATION, written) == DURATION_RULE


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [
        (0, 0),
        (65536, 65536),
        (65536.0, 65536),
        ("65536", 65536),
        ("7B", 7),
        ("10kB", 10_000),
        ("1.1kB", 1100),
        ("2MB", 2_000_000),
        ("1GB", 1_000_000_000),
        ("64KiB", 65_536),
        ("64MiB", 67_108_864),
        ("64 MiB", 67_108_864),
        ("1.5MiB", 1_572_864),
        ("1GiB", 1_073_741_824),
    ],
)
def test_a_size_is_bytes(written: object, bytes_: int) -> None:
    """A number counts bytes, and a unit scales it without rounding."""
    value = SIZE.validate_python(written)
    assert value == bytes_
    assert type(value) is int


@pytest.mark.parametrize("written", ["", "MiB", "64M", "64mib", "64 parsecs", "1e6", "inf", None, True, {}])
def test_what_is_no_size_is_refused(written: object) -> None:
    """Anything else is refused, and the text shows how to write one."""
    assert complaint(SIZE, written) == SIZE_RULE


@pytest.mark.parametrize("adapter", [DURATION, SIZE], ids=["duration", "size"])
@pytest.mark.parametrize("written", [-1, -0.5, -math.inf, "-1", "-0.5"])
def test_nothing_is_negative(adapter: TypeAdapter[float] | TypeAdapter[int], written: object) -> None:
    """Neither a duration nor a size is below zero."""
    assert complaint(adapter, written) == "must not be negative"


@pytest.mark.parametrize("adapter", [DURATION, SIZE], ids=["duration", "size"])
@pytest.mark.parametrize("written", [math.inf, math.nan])
def test_everything_is_finite(adapter: TypeAdapter[float] | TypeAdapter[int], written: float) -> None:
    """Infinity and not-a-number are neither a duration nor a size."""
    assert "finite number" in complaint(adapter, written)


@pytest.mark.parametrize("written", ["0.3B", "0.0001kB", 1.5])
def test_a_part_of_a_byte_is_refused(written: object) -> None:
    """A size is a whole number of bytes."""
    assert complaint(SIZE, written) == "Input should be a valid integer, got a number with a fractional part"


@given(st.integers(min_value=0, max_value=2**40), st.sampled_from([("KiB", 2**10), ("MB", 10**6), ("GiB", 2**30)]))
def test_a_size_with_a_unit_is_exact(number: int, unit: tuple[str, int]) -> None:
    """No size loses a byte on its way through the unit."""
    assert SIZE.validate_python(f"{number}{unit[0]}") == number * unit[1]


@given(st.text())
def test_any_text_is_read_or_refused(written: str) -> None:
    """No text makes anything happen but a duration or a validation error."""
    try:
        value = DURATION.validate_python(written)
    except ValidationError:
        return
    assert value >= 0
