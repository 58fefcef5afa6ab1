"""What publishes wait for that find no room: they are tried again when it changes, and not before."""

from collections.abc import Iterable
from typing import Final

ALL: Final = ""
"""What is awaited if there is no room in the whole server; no queue is called that."""


class Awaited:
    """In which queues something must change, by the names of what waits for it."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, None]] = {}
        """By queue; those who came first, first."""
        self._queues: dict[str, str] = {}
        """By name."""
        self._changed: dict[str, None] = {}
        self._is_rerouted = False

    def wait(self, name: str, queue: str) -> None:
        """Have a name wait for a queue, instead of what it has waited for."""
        if self._queues.get(name) != queue:
            self.forget(name)
            self._queues[name] = queue
            self._names.setdefault(queue, {})[name] = None

    def forget(self, name: str) -> None:
        """Have a name wait for nothing."""
        queue = self._queues.pop(name, None)
        if queue is not None:
            del self._names[queue][name]
            if not self._names[queue]:
                del self._names[queue]

    def waiting(self, queue: str) -> list[str]:
        """Return the names that wait for a queue."""
        return list(self._names.get(queue, ()))

    def changed(self, queue: str) -> None:
        """Take note that something has left a queue, or was read or stored there."""
        if queue in self._names:
            self._changed[queue] = None

    def rerouted(self) -> None:
        """Take note that messages may have to be stored in other queues than before."""
        self._is_rerouted = True

    def take(self) -> Iterable[str]:
        """Return, once, the names for which there may be room now."""
        changed, self._changed = self._changed, {}
        if self._is_rerouted:
            self._is_rerouted = False
            return list(self._queues)
        return dict.fromkeys(name for queue in changed for name in self._names.get(queue, ()))
