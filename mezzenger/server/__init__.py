"""The server: real sockets, a real clock and a store around the broker."""
