"""For tests of programs that use Mezzenger: servers with their clients, in memory or on free ports."""

from mezzenger.testing.clock import FakeClock
from mezzenger.testing.link import Link
from mezzenger.testing.local import LocalServer

__all__ = ["FakeClock", "Link", "LocalServer"]
