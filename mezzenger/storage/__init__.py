"""Where the server keeps ``ack=1`` messages until they are acknowledged."""
