"""The client: real sockets, a real clock and threads around a ``ClientSession``."""
