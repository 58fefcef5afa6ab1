"""What a responder does with requests, without any server."""

import pytest

from mezzenger import ClientSettings
from mezzenger.channel import Channel
from mezzenger.client.handlers import Handler
from mezzenger.client.payloads import Payloads
from mezzenger.client.responder import Responder
from mezzenger.codecs import JSON, RAW
from mezzenger.errors import MessageTooLarge
from mezzenger.message import Message
from mezzenger.protocol.commands import Raised
from mezzenger.protocol.events import Delivery, Served
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.wire import encode_data, read_contents

SERVED = Served(5, 1e9)


class Told:
    """A responder, and what it sends."""

    def __init__(self, *, is_awaited: bool = True, limit: int = 1000) -> None:
        self.responses: list[Draft | Raised] = []
        self._limit = limit
        self.responder = Responder(Payloads(ClientSettings()), lambda _: is_awaited, self._respond)

    def _respond(self, served: Served, response: Draft | Raised) -> None:
        assert served is SERVED
        if isinstance(response, Draft) and len(response.items[0][1]) > self._limit:
            raise MessageTooLarge("too large")
        self.responses.append(response)

    def serve(self, handler: Handler | None, *, codec: int = JSON.number, payload: bytes = b"[1]") -> None:
        frame = encode_data("a", [(1.5, payload)], ack=0, codec=codec, client=1, sequence=1)
        self.responder.serve(Delivery(read_contents(frame), 1, None, served=SERVED), SERVED, handler)

    def returned(self) -> tuple[int, bytes]:
        """Return the codec and the payload of the only response."""
        (draft,) = self.responses
        assert isinstance(draft, Draft)
        assert (draft.name, draft.ack, len(draft.items)) == ("a", 0, 1)
        return draft.codec, draft.items[0][1]

    def raised(self) -> Raised:
        """Return the only response, which is an error."""
        (response,) = self.responses
        assert isinstance(response, Raised)
        return response

    @property
    def counted(self) -> tuple[int, int]:
        return self.responder.received, self.responder.failed


def never(_payload: object, _msg: Message[object]) -> None:
    pytest.fail("this must not be called")


def test_it_answers_as_it_was_asked() -> None:
    """What the callback returns is written with the codec of the request."""
    told = Told()
    told.serve(Handler(lambda payload, _msg: [payload, None]))
    assert told.returned() == (JSON.number, b"[[1],null]")
    assert told.counted == (1, 0)


def test_nobody_waits() -> None:
    """Nothing is run, counted or sent for what nobody waits for."""
    told = Told(is_awaited=False)
    told.serve(Handler(never))
    assert (told.responses, told.counted) == ([], (0, 0))


def test_it_raises() -> None:
    """Who asked is told the type, the text, and where in the callback it was."""

    def fail(payload: list[int], _msg: Message[list[int]]) -> None:
        raise KeyError(payload[0])

    told = Told()
    told.serve(Handler(fail))
    error = told.raised()
    assert (error.kind, error.text) == ("KeyError", "1")
    assert error.traceback.startswith("  File")
    assert "raise KeyError(payload[0])" in error.traceback
    assert "mezzenger/client/responder.py" not in error.traceback
    assert told.counted == (1, 1)


def test_no_callback_any_more() -> None:
    """Who asked is told that nothing was run."""
    told = Told()
    told.serve(None)
    assert told.raised() == Raised("NotSubscribed", "the responder has unsubscribed from 'a'; nothing was run", "")
    assert told.counted == (0, 0)


def test_what_cannot_be_read() -> None:
    """A payload that cannot be decoded, or is not of the channel's type, never reaches the callback."""
    told = Told()
    told.serve(Handler(never), payload=b"[")
    assert told.raised().kind == "PayloadNotDecodable"
    typed = Told()
    typed.serve(Handler(never, Channel("a", int)))
    assert typed.raised().kind == "PayloadInvalid"
    assert typed.counted == (0, 1)


def test_what_cannot_be_written() -> None:
    """An answer that the codec cannot write, or the server would not take, is an error without a traceback."""
    told = Told()
    told.serve(Handler(lambda _payload, _msg: "text"), codec=RAW.number)
    assert (told.raised().kind, told.raised().traceback) == ("PayloadNotEncodable", "")
    large = Told(limit=3)
    large.serve(Handler(lambda _payload, _msg: "text"))
    assert large.raised() == Raised("MessageTooLarge", "too large", "")
    assert large.counted == (1, 1)
