"""Times as people read them."""

from datetime import UTC, datetime


def local_time(seconds: float) -> str:
    """Return a time in Unix seconds as date, time and offset of this machine's time zone."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(sep=" ", timespec="seconds")
