"""How what is sent is written: with which codec, and what is raised if that cannot be."""

import pickle

import pytest

from mezzenger import Channel, ClientSettings, InvalidName, PayloadInvalid, PayloadNotEncodable
from mezzenger.client import outlets
from mezzenger.client.payloads import Payloads
from mezzenger.codecs import MSGPACK, PICKLE

LARGE = bytes(100_000)


class Unwilling:
    """Cannot be pickled."""

    def __reduce__(self) -> str:
        raise RuntimeError("not me")


def test_one_outlet_for_a_name() -> None:
    """It is made once, and the name checked once."""
    payloads = Payloads(ClientSettings())
    outlet = payloads.outlet("a")
    assert outlet is payloads.outlet(str(b"a", "ascii")) is payloads.outlets["a"]
    assert (outlet.name, outlet.codec) == ("a", PICKLE.number)
    assert pickle.loads(outlet.encode([1, 2])) == [1, 2]


def test_a_channel_writes_what_is_sent_through_it() -> None:
    """With its own codec, through one outlet, and what is not of its type is refused as it says."""
    payloads, channel = Payloads(ClientSettings()), Channel("a", int)
    outlet = payloads.outlet(channel)
    assert outlet is payloads.outlet(channel)
    assert outlet is not payloads.outlet(Channel("a", int))
    assert (outlet.name, outlet.codec) == ("a", MSGPACK.number)
    assert outlet.encode(1) == MSGPACK.dumps(1)
    with pytest.raises(PayloadInvalid, match="channel 'a'"):
        outlet.encode("one")


@pytest.mark.parametrize("name", ["", "a|b", "a.*", 7, None, [], ["a"], {}])
def test_what_is_no_name(name: object) -> None:
    """Is refused, also if it cannot even be looked up; and nothing is remembered."""
    payloads = Payloads(ClientSettings())
    with pytest.raises(InvalidName):
        payloads.outlet(name)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(InvalidName):
        payloads.outlet(Channel("a.*", int))
    assert not payloads.outlets


def test_what_cannot_be_written() -> None:
    """The error names the message and the type, and has the cause."""
    with pytest.raises(PayloadNotEncodable, match=r"message 'a'.*Unwilling.*pickle: not me") as caught:
        Payloads(ClientSettings()).outlet("a").encode(Unwilling())
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_what_is_large_is_written_as_such() -> None:
    """From the second on, as long as payloads of that name are large; and it is the same that is written."""
    outlet = Payloads(ClientSettings()).outlet("a")
    for payload in (b"", LARGE):
        assert outlet.dumps is PICKLE.dumps
        assert outlet.encode(payload) == PICKLE.dumps(payload)
    for payload in (LARGE, LARGE, b""):
        assert outlet.dumps is not PICKLE.dumps
        assert outlet.encode(payload) == PICKLE.dumps(payload)
    assert outlet.dumps is PICKLE.dumps


def test_a_channel_writes_what_is_large_too() -> None:
    """Whatever its size."""
    outlet = Payloads(ClientSettings()).outlet(Channel("a", bytes))
    for _ in range(3):
        assert outlet.encode(LARGE) == MSGPACK.dumps(LARGE)


def test_not_all_names_are_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends under ever new names does not fill the memory."""
    monkeypatch.setattr(outlets, "_REMEMBERED", 10)
    payloads = Payloads(ClientSettings())
    for number in range(100):
        assert payloads.outlet(f"a.{number}").name == f"a.{number}"
        assert payloads.outlet(Channel("a", int)).name == "a"
        assert len(payloads.outlets) <= 10


def test_of_channels_fewer_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes a channel for each message does not fill the memory with what pydantic knows of their types."""
    monkeypatch.setattr(outlets, "_CHANNELS_REMEMBERED", 10)
    payloads = Payloads(ClientSettings())
    for number in range(25):
        payloads.outlet(Channel("a", int))
        assert len(payloads.outlets) == number % 10 + 1
    for number in range(100):
        payloads.outlet(f"a.{number}")
    assert len(payloads.outlets) == 105
