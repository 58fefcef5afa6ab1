"""What is in data frames, for all who keep an account of them; each frame is looked at many times, and read once."""

from functools import lru_cache
from typing import Final

from mezzenger.protocol import wire

_FRAMES: Final = 4096


@lru_cache(maxsize=_FRAMES)
def contents_of(frame: bytes) -> wire.Contents:
    """Return what a frame has, which is checked."""
    return wire.read_contents(frame)


def header_of(frame: bytes) -> wire.Header:
    """Return the header of a frame that is whole."""
    return contents_of(frame).header
