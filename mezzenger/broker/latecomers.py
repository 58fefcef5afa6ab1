"""What will be the last message of its name once it is stored, unless a later one has come, and gone, by then."""

from collections import Counter


class Latecomers:
    """Of each name, how many messages are on their way to the store, and which of them come too late."""

    def __init__(self) -> None:
        self._storing: Counter[str] = Counter()
        self._ended: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._storing

    def storing(self, name: str) -> None:
        """Take note of a message that is handed to the store."""
        self._storing[name] += 1

    def ended(self, name: str, number: int) -> None:
        """Take note that the last message, which had this number, is kept no more: older ones come too late now."""
        if name in self._storing:
            self._ended[name] = number

    def is_late(self, name: str, number: int) -> bool:
        """Whether a message that is stored now is not the last one, though nothing is kept."""
        return number <= self._ended.get(name, 0)

    def answered(self, name: str) -> None:
        """Take note that the store has answered."""
        self._storing[name] -= 1
        if not self._storing[name]:
            del self._storing[name]
            self._ended.pop(name, None)
