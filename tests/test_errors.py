"""The errors carry what a program needs beside the text."""

from mezzenger.errors import MezzengerError, ProtocolError, Rejected


def test_rejected_names_its_reason() -> None:
    """A refusal says why in words and in a stable reason."""
    error = Rejected("storage", "the message was not stored")
    assert isinstance(error, MezzengerError)
    assert (str(error), error.reason) == ("the message was not stored (storage)", "storage")


def test_protocol_error_keeps_its_reason() -> None:
    """What cannot be read is counted by a stable reason."""
    assert ProtocolError("digest", "damaged").reason == "digest"
