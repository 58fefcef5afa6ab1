"""Times as people read them."""

from datetime import UTC, datetime


def local_time(seconds: float) -> str:
    """Return a time in Unix seconds as date, time and offset of this machine's time zone.

    What no calendar reaches stays a number of seconds.
    """
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"
