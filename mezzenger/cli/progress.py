"""One line on the terminal that tells how far a command has come."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mezzenger.cli.exits import is_terminal


class Sent:
    """Counts messages; rich shows it as text."""

    def __init__(self) -> None:
        self.messages = 0
        self._began = time.monotonic()

    def add(self, messages: int) -> None:
        """Count messages that were sent; the time runs from the first ones on."""
        if not self.messages:
            self._began = time.monotonic()
        self.messages += messages

    def __rich__(self) -> str:
        seconds = time.monotonic() - self._began
        # Within the first second this would be a wild guess.
        rate = f", {self.messages / seconds:,.0f} per second" if seconds >= 1 else ""
        return f"{self.messages:,} {'message' if self.messages == 1 else 'messages'} sent{rate}"


@contextmanager
def progress() -> Iterator[Sent]:
    """Show on stderr, if that is a terminal, what is counted within the block."""
    sent = Sent()
    if not is_terminal(sys.stderr):
        yield sent
        return
    # Slow to load, and not needed in scripts.
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    with Live(sent, console=Console(stderr=True, highlight=False), redirect_stdout=False):
        yield sent
