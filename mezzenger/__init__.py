"""Mezzenger: typed messages between Python processes, through one server."""

from mezzenger.message import Message

__version__ = "0.1.0"

__all__ = ["Message", "__version__"]
