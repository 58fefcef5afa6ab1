"""The wire format and its commands, the client's session: all without a socket."""
