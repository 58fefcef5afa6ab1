"""What travels beside a payload, as a subscriber sees it."""

from typing import Any, Final, NoReturn


class Headers(dict[str, str]):
    """Text by name, which cannot be changed: all callbacks of a message see the same one.

    It is a dict for whoever reads it, or writes it as JSON; ``dict(headers)`` is one that can be changed.
    """

    __slots__ = ()

    def _refuse(self, *_args: object, **_options: object) -> NoReturn:
        raise TypeError("the headers of a message cannot be changed; change a copy: dict(msg_obj.headers)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none, for it can be changed
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Else a copy would be made by adding to it.
        return Headers, (dict(self),)


NO_HEADERS: Final = Headers()
