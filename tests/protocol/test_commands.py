"""Commands: each comes back as it was sent, from the end that may send it, and nothing else is taken for one."""

import math
from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mezzenger.errors import ConfigurationError, ProtocolError
from mezzenger.message import MAX_NAME_BYTES
from mezzenger.protocol.commands import (
    MAX_ERROR_CHARACTERS,
    MAX_PREFETCH,
    MAX_SECONDS,
    NAMES_PER_SUBSCRIBE,
    NUMBERS_PER_QUESTION,
    TOKEN_BYTES,
    Ack,
    ClientCommand,
    Command,
    Completed,
    Confirm,
    Declined,
    Deliver,
    DropDead,
    DropGroup,
    DropRetained,
    Failed,
    Failure,
    Goodbye,
    Groups,
    GroupState,
    Hello,
    Join,
    LastMessage,
    LastMessages,
    Leave,
    Letter,
    Letters,
    Linked,
    ListDead,
    ListGroups,
    ListRetained,
    Nack,
    Ping,
    Pong,
    Raised,
    Refuse,
    Request,
    ResendDead,
    Respond,
    Response,
    Retained,
    Returned,
    Serve,
    ServerCommand,
    ShowDead,
    Subscribe,
    Subscribed,
    Unserved,
    Unsubscribe,
    Welcome,
    Withdraw,
)
from mezzenger.protocol.wire import decode_client_command, decode_server_command, encode_command, is_control
from mezzenger.settings import ServerSettings

Decode = Callable[[bytes], Command]

READERS: Final[tuple[Decode, ...]] = (decode_client_command, decode_server_command)

LARGEST: Final = 2**64 - 1
TOKEN: Final = bytes(range(TOKEN_BYTES))
KEY: Final = b"k" * 16

NUMBERS: Final = st.integers(0, LARGEST)
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TOKENS: Final = st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES)
TIMEOUTS: Final = st.floats(0, MAX_SECONDS, exclude_min=True)
FRAMES: Final = st.binary(max_size=50)
RESPONSES: Final = st.builds(Returned, FRAMES) | st.builds(Raised, TEXTS, TEXTS, TEXTS)
TIMES: Final = st.floats(allow_nan=False)
FAILURES: Final = st.builds(Failure, NUMBERS, TEXTS)
LETTERS: Final = st.builds(
    Letter,
    number=NUMBERS,
    name=TEXTS,
    client=NUMBERS,
    sequence=NUMBERS,
    timestamp=TIMES,
    messages=NUMBERS,
    size=NUMBERS,
    attempts=NUMBERS,
    buried=TIMES,
    reason=TEXTS,
    error=TEXTS,
    indexes=st.none() | st.lists(NUMBERS),
    frame=st.none() | st.binary(max_size=50),
)
LAST_MESSAGES: Final = st.builds(
    LastMessage,
    name=TEXTS,
    client=NUMBERS,
    sequence=NUMBERS,
    timestamp=TIMES,
    ack=NUMBERS,
    size=NUMBERS,
    expires=st.none() | TIMES,
)
LAST_MESSAGE: Final = LastMessage("a", 77, 9, 1.5, 1, 50, None)
GROUP_STATES: Final = st.builds(GroupState, TEXTS, TEXTS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
LETTER: Final = Letter(3, "a", 77, 9, 1.5, 2, 50, 20, 2.5, "max_attempts", "KeyError: 'x'", [0, 2], b"frame", None)
WRITTEN_LETTER: Final = [3, "a", 77, 9, 1.5, 2, 50, 20, 2.5, "max_attempts", "KeyError: 'x'", [0, 2], b"frame", None]

CLIENT: Final[dict[type[Command], st.SearchStrategy[Command]]] = {
    Hello: st.builds(Hello, NUMBERS, NUMBERS, st.binary(min_size=16, max_size=16), TOKENS, NUMBERS),
    Subscribe: st.builds(Subscribe, NUMBERS, st.lists(TEXTS), TOKENS),
    Unsubscribe: st.builds(Unsubscribe, TEXTS),
    Join: st.builds(
        Join,
        NUMBERS,
        TEXTS,
        TEXTS,
        st.integers(1, MAX_PREFETCH),
        st.none() | st.floats(min_value=0.001, max_value=1e9),
        st.none() | TEXTS.filter(bool),
    ),
    Leave: st.builds(Leave, TEXTS, TEXTS),
    Ack: st.builds(Ack, st.lists(NUMBERS)),
    Nack: st.builds(Nack, NUMBERS, st.lists(FAILURES, min_size=1)),
    Ping: st.builds(Ping, NUMBERS),
    ListDead: st.builds(ListDead, NUMBERS, st.none() | TEXTS, NUMBERS),
    ShowDead: st.builds(ShowDead, NUMBERS, NUMBERS),
    ResendDead: st.builds(ResendDead, NUMBERS, st.lists(NUMBERS)),
    DropDead: st.builds(DropDead, NUMBERS, st.lists(NUMBERS)),
    ListRetained: st.builds(ListRetained, NUMBERS, TEXTS),
    DropRetained: st.builds(DropRetained, NUMBERS, st.lists(TEXTS)),
    Request: st.builds(Request, NUMBERS, TIMEOUTS, st.booleans(), FRAMES),
    Respond: st.builds(Respond, NUMBERS, RESPONSES),
    ListGroups: st.builds(ListGroups, NUMBERS, TEXTS),
    DropGroup: st.builds(DropGroup, NUMBERS, TEXTS, TEXTS),
}
SERVER: Final[dict[type[Command], st.SearchStrategy[Command]]] = {
    Welcome: st.builds(Welcome, NUMBERS, NUMBERS, st.booleans()),
    Linked: st.builds(Linked),
    Goodbye: st.builds(Goodbye, TEXTS, TEXTS, st.booleans()),
    Subscribed: st.builds(Subscribed, NUMBERS),
    Confirm: st.builds(Confirm, st.lists(NUMBERS)),
    Refuse: st.builds(Refuse, NUMBERS, TEXTS, TEXTS),
    Deliver: st.builds(Deliver, NUMBERS, st.integers(1, LARGEST), st.none() | st.lists(NUMBERS), st.none() | TEXTS),
    Declined: st.builds(Declined, NUMBERS, TEXTS, TEXTS),
    Groups: st.builds(Groups, NUMBERS, st.lists(GROUP_STATES, max_size=3)),
    Pong: st.builds(Pong, NUMBERS),
    Letters: st.builds(Letters, NUMBERS, st.lists(LETTERS, max_size=3)),
    Retained: st.builds(Retained, NUMBERS),
    LastMessages: st.builds(LastMessages, NUMBERS, st.lists(LAST_MESSAGES, max_size=3)),
    Completed: st.builds(Completed, NUMBERS, NUMBERS),
    Failed: st.builds(Failed, NUMBERS, TEXTS, TEXTS),
    Serve: st.builds(Serve, NUMBERS, TIMEOUTS, FRAMES),
    Withdraw: st.builds(Withdraw, NUMBERS),
    Response: st.builds(Response, NUMBERS, RESPONSES | st.builds(Unserved, TEXTS, TEXTS)),
}

# One of each, and what travels.
CLIENT_SAMPLES: Final[list[tuple[Command, list[object]]]] = [
    (Hello(1, LARGEST, KEY, TOKEN, 3), ["hello", 1, LARGEST, KEY, TOKEN, 3]),
    (Subscribe(7, ["a", "caf\xe9"], TOKEN), ["subscribe", 7, ["a", "caf\xe9"], TOKEN]),
    (Unsubscribe("a"), ["unsubscribe", "a"]),
    (Join(7, "a.*", "g", 64, None, None), ["join", 7, "a.*", "g", 64, None, None]),
    (Join(7, "a", "g", 1, 1.5, "customer"), ["join", 7, "a", "g", 1, 1.5, "customer"]),
    (Leave("a.*", "g"), ["leave", "a.*", "g"]),
    (Ack([4, 70000]), ["ack", [4, 70000]]),
    (Nack(4, [Failure(0, "KeyError: 'x'"), Failure(2, "")]), ["nack", 4, [[0, "KeyError: 'x'"], [2, ""]]]),
    (Ping(9), ["ping", 9]),
    (ListDead(3, "a", 70000), ["list_dead", 3, "a", 70000]),
    (ListDead(3, None, 0), ["list_dead", 3, None, 0]),
    (ShowDead(3, LARGEST), ["show_dead", 3, LARGEST]),
    (ResendDead(3, [4, 5]), ["resend_dead", 3, [4, 5]]),
    (DropDead(3, []), ["drop_dead", 3, []]),
    (ListRetained(3, "caf\xe9"), ["list_retained", 3, "caf\xe9"]),
    (DropRetained(3, ["a"]), ["drop_retained", 3, ["a"]]),
    (Request(3, 1.5, True, b"frame"), ["request", 3, 1.5, True, b"frame"]),
    (Respond(3, Returned(b"frame")), ["respond", 3, ["returned", b"frame"]]),
    (Respond(3, Raised("KeyError", "'x'", "line 1")), ["respond", 3, ["raised", "KeyError", "'x'", "line 1"]]),
    (ListGroups(3, "a|g"), ["list_groups", 3, "a|g"]),
    (DropGroup(3, "a", "g"), ["drop_group", 3, "a", "g"]),
]
SERVER_SAMPLES: Final[list[tuple[Command, list[object]]]] = [
    (Welcome(1, 65536, retains=False), ["welcome", 1, 65536, False]),
    (Linked(), ["linked"]),
    (Goodbye("version", "too old", retry=False), ["goodbye", "version", "too old", False]),
    (Subscribed(7), ["subscribed", 7]),
    (Confirm([1, 2, LARGEST]), ["confirm", [1, 2, LARGEST]]),
    (Refuse(3, "storage", "disk full"), ["refuse", 3, "storage", "disk full"]),
    (Deliver(5, 1, None, None), ["deliver", 5, 1, None, None]),
    (Deliver(5, 2, [0, 3], "a.*|g"), ["deliver", 5, 2, [0, 3], "a.*|g"]),
    (Declined(7, "order_by", "by another header"), ["declined", 7, "order_by", "by another header"]),
    (Pong(9), ["pong", 9]),
    (Groups(3, [GroupState("a", "g", 2, 5, 500, 1, 3)]), ["groups", 3, [["a", "g", 2, 5, 500, 1, 3]]]),
    (Letters(3, []), ["letters", 3, []]),
    (Letters(3, [LETTER]), ["letters", 3, [WRITTEN_LETTER]]),
    (Retained(7), ["retained", 7]),
    (LastMessages(3, []), ["last_messages", 3, []]),
    (LastMessages(3, [LAST_MESSAGE]), ["last_messages", 3, [["a", 77, 9, 1.5, 1, 50, None]]]),
    (Completed(3, 4), ["done", 3, 4]),
    (Failed(3, "storage", "damaged"), ["failed", 3, "storage", "damaged"]),
    (Serve(4, 1.5, b"frame"), ["serve", 4, 1.5, b"frame"]),
    (Withdraw(4), ["withdraw", 4]),
    (Response(3, Returned(b"")), ["response", 3, ["returned", b""]]),
    (Response(3, Raised("KeyError", "'x'", "")), ["response", 3, ["raised", "KeyError", "'x'", ""]]),
    (Response(3, Unserved("limit", "too many")), ["response", 3, ["unserved", "limit", "too many"]]),
]
SAMPLES: Final = CLIENT_SAMPLES + SERVER_SAMPLES


def control(content: object) -> bytes:
    """Write anything as if it were a command."""
    return b"|" + msgspec.msgpack.encode(content)


def take_or_refuse(decode: Decode, frame: bytes) -> Command | None:
    """Decode bytes, of which None is left if they are refused as they should be."""
    try:
        return decode(frame)
    except ProtocolError as error:
        reason = error.reason
    assert reason == "command"
    return None


class TestRoundTrip:
    """What one end writes is what the other end reads."""

    def test_every_command_is_tried_here(self) -> None:
        """Each command of either end is in the tables of this file."""
        assert set(CLIENT) == set(get_args(ClientCommand)) == {type(command) for command, _ in CLIENT_SAMPLES}
        assert set(SERVER) == set(get_args(ServerCommand)) == {type(command) for command, _ in SERVER_SAMPLES}

    @pytest.mark.parametrize("kind", CLIENT)
    @settings(max_examples=50)
    @given(data=st.data())
    def test_a_client_sends_it(self, kind: type[Command], data: st.DataObject) -> None:
        """The server reads what a client wrote; another client does not take it."""
        command = data.draw(CLIENT[kind])
        frame = encode_command(command)
        assert is_control(frame)
        assert decode_client_command(frame) == command
        assert take_or_refuse(decode_server_command, frame) is None

    @pytest.mark.parametrize("kind", SERVER)
    @settings(max_examples=50)
    @given(data=st.data())
    def test_the_server_sends_it(self, kind: type[Command], data: st.DataObject) -> None:
        """A client reads what the server wrote; the server does not take it."""
        command = data.draw(SERVER[kind])
        frame = encode_command(command)
        assert is_control(frame)
        assert decode_server_command(frame) == command
        assert take_or_refuse(decode_client_command, frame) is None

    @pytest.mark.parametrize(("command", "content"), SAMPLES)
    def test_the_bytes_stay_what_they_are(self, command: Command, content: list[object]) -> None:
        """A command is ``|`` and the msgpack of its tag and its fields in order: other versions rely on it."""
        assert encode_command(command) == control(content)

    @pytest.mark.parametrize("command", [command for command, _ in SAMPLES])
    def test_a_command_is_frozen(self, command: Command) -> None:
        """Nobody changes a command that somebody else holds, too."""
        for field in command.__struct_fields__:
            with pytest.raises(AttributeError):
                setattr(command, field, None)


class TestLimits:
    """How much fits into a field."""

    @pytest.mark.parametrize(
        "command",
        [
            Hello(LARGEST, LARGEST, KEY, TOKEN, LARGEST),
            Hello(0, 0, KEY, TOKEN, 0),
            Subscribe(0, [], TOKEN),
            Subscribe(0, ["a"] * NAMES_PER_SUBSCRIBE, TOKEN),
            Ack([]),
            Ack([LARGEST] * 10_000),
            Nack(0, [Failure(0, "x" * MAX_ERROR_CHARACTERS)] * 1000),
            Nack(0, [Failure(0, "\U0001f600" * MAX_ERROR_CHARACTERS)]),
            ResendDead(0, [LARGEST] * NUMBERS_PER_QUESTION),
            DropDead(0, [0] * NUMBERS_PER_QUESTION),
            Request(0, MAX_SECONDS, elsewhere=False, frame=b""),
            Request(LARGEST, 5e-324, elsewhere=True, frame=bytes(2**20)),
            Respond(LARGEST, Raised(*["\xe9" * MAX_ERROR_CHARACTERS] * 3)),
        ],
        ids=lambda command: type(command).__name__,
    )
    def test_what_just_fits_is_taken(self, command: Command) -> None:
        """The smallest and the largest of each field arrive."""
        assert decode_client_command(encode_command(command)) == command

    @pytest.mark.parametrize(
        "command",
        [
            Goodbye("\xe9" * 64, "\xe9" * MAX_ERROR_CHARACTERS, retry=True),
            Refuse(LARGEST, "", "x" * MAX_ERROR_CHARACTERS),
            Deliver(0, 1, [], None),
            Confirm([]),
        ],
        ids=lambda command: type(command).__name__,
    )
    def test_what_just_fits_is_taken_from_the_server(self, command: Command) -> None:
        """The smallest and the largest of each field arrive."""
        assert decode_server_command(encode_command(command)) == command

    @pytest.mark.parametrize(
        "content",
        [
            ["hello", 1, 1, KEY, TOKEN[:-1], 1],
            ["hello", 1, 1, KEY, TOKEN + b"x", 1],
            ["hello", 1, 1, KEY[:-1], TOKEN, 1],
            ["hello", 1, 1, KEY + b"x", TOKEN, 1],
            ["hello", 1, 1, "k" * 16, TOKEN, 1],
            ["hello", -1, 1, KEY, TOKEN, 1],
            ["hello", 1, -1, KEY, TOKEN, 1],
            ["hello", 1, 1, KEY, TOKEN, -1],
            ["hello", 1, 1, KEY, TOKEN, None],
            ["subscribe", -1, [], TOKEN],
            ["subscribe", 1, ["a"] * (NAMES_PER_SUBSCRIBE + 1), TOKEN],
            ["subscribe", 1, [b"a"], TOKEN],
            ["subscribe", 1, "a", TOKEN],
            ["subscribe", 1, [], b""],
            ["unsubscribe", 5],
            ["unsubscribe", None],
            ["ack", 5],
            ["ack", [-1]],
            ["ack", ["1"]],
            ["ack", [1.0]],
            ["nack", 1, []],
            ["nack", -1, [[0, ""]]],
            ["nack", 1, [[-1, ""]]],
            ["nack", 1, [[0, "x" * (MAX_ERROR_CHARACTERS + 1)]]],
            ["nack", 1, [[0]]],
            ["nack", 1, [[0, "", 0]]],
            ["nack", 1, [0, ""]],
            ["ping", -1],
            ["ping", 1.5],
            ["ping", True],
            ["ping", "1"],
            ["ping", [1]],
            ["list_dead", 1, 5, 0],
            ["list_dead", 1, "a", -1],
            ["show_dead", 1, None],
            ["show_dead", 1, -1],
            ["resend_dead", 1, 5],
            ["resend_dead", 1, [-1]],
            ["resend_dead", 1, [1] * (NUMBERS_PER_QUESTION + 1)],
            ["drop_dead", 1, [1] * (NUMBERS_PER_QUESTION + 1)],
            ["drop_dead", -1, []],
            ["request", -1, 1.0, False, b""],
            ["request", 1, 0.0, False, b""],
            ["request", 1, -1.0, False, b""],
            ["request", 1, math.nan, False, b""],
            ["request", 1, 2 * MAX_SECONDS, False, b""],
            ["request", 1, 1.0, 0, b""],
            ["request", 1, 1.0, False, "text"],
            ["respond", -1, ["returned", b""]],
            ["respond", 1, ["returned", None]],
            ["respond", 1, ["returned", b"", b""]],
            ["respond", 1, ["raised", "x", "x"]],
            ["respond", 1, ["raised", "x", "x" * (MAX_ERROR_CHARACTERS + 1), "x"]],
            ["respond", 1, ["unserved", "gone", ""]],
            ["respond", 1, None],
        ],
        ids=ascii,
    )
    def test_a_field_of_a_client_is_refused(self, content: list[object]) -> None:
        """The server takes no field that is of another type, too long or too small."""
        assert take_or_refuse(decode_client_command, control(content)) is None

    @pytest.mark.parametrize(
        "content",
        [
            ["welcome", -1, 1],
            ["welcome", 1, -1],
            ["goodbye", "x" * 65, "", True],
            ["goodbye", "", "x" * (MAX_ERROR_CHARACTERS + 1), True],
            ["goodbye", "", "", 1],
            ["subscribed", -1],
            ["confirm", [-1]],
            ["confirm", None],
            ["refuse", -1, "", ""],
            ["refuse", 1, "x" * 65, ""],
            ["refuse", 1, "", "x" * (MAX_ERROR_CHARACTERS + 1)],
            ["deliver", -1, 1, None],
            ["deliver", 1, 0, None],
            ["deliver", 1, 1, [-1]],
            ["deliver", 1, 1, 0],
            ["pong", -1],
            ["letters", 1, [[*WRITTEN_LETTER, 0]]],
            ["letters", 1, [WRITTEN_LETTER[:-1]]],
            ["letters", 1, [[*WRITTEN_LETTER[:10], "x" * (MAX_ERROR_CHARACTERS + 1), None, None]]],
            ["letters", 1, None],
            ["done", 1, -1],
            ["failed", 1, "x" * 65, ""],
            ["serve", -1, 1.0, b""],
            ["serve", 1, 0.0, b""],
            ["serve", 1, 1.0, None],
            ["withdraw", -1],
            ["response", -1, ["returned", b""]],
            ["response", 1, ["unserved", "x" * 65, ""]],
            ["response", 1, ["gone"]],
        ],
        ids=ascii,
    )
    def test_a_field_of_the_server_is_refused(self, content: list[object]) -> None:
        """A client takes no field that is of another type, too long or too small."""
        assert take_or_refuse(decode_server_command, control(content)) is None

    def test_the_largest_subscribe_is_never_too_large(self) -> None:
        """No server can be told to take less than what a client's longest names need."""
        names = ["n" * MAX_NAME_BYTES] * NAMES_PER_SUBSCRIBE
        frame = encode_command(Subscribe(LARGEST, names, TOKEN))
        with pytest.raises(ConfigurationError, match="max_message_size: must be at least"):
            ServerSettings(max_message_size=len(frame))


class TestMalformed:
    """Whatever else arrives is refused, and does no harm."""

    @pytest.mark.parametrize("decode", READERS)
    @pytest.mark.parametrize(
        "frame",
        [
            b"",
            b"|",
            b"|\xc1",
            b"|hello",
            control(None),
            control([]),
            control({}),
            control("ping"),
            control({"type": "ping", "number": 1}),
            control([1, 1]),
            control([b"ping", 1]),
            control([["ping"], 1]),
            control(["quit"]),
            control(["Ping", 1]),
            control(["failure", 0, ""]),
            control(["x" * 100_000]),
            b"|\x91\xa1\xff",
            b"|\x92\xabunsubscribe\xa2\xc3\x28",
            b"|\x92\xabunsubscribe\xa3\xed\xa0\x80",
            b"|\x94\xa7goodbye\xa1\xff\xa1\xff\xc2",
            b"|" + b"\x91" * 100_000 + b"\x01",
            b"|\x92\xa3ack" + b"\x91" * 100_000 + b"\x01",
            b"|\x92\xa3ack\xdd\xff\xff\xff\xff",
            b"|\x92\xa7confirm\xdd\xff\xff\xff\xff",
            b"|\xdd\xff\xff\xff\xff\xa4ping\x01",
        ],
        ids=lambda frame: ascii(frame[:30]),
    )
    def test_bytes_are_refused(self, decode: Decode, frame: bytes) -> None:
        """No command, an unknown one, text that is not UTF-8, endless nesting and lists that promise too much."""
        with pytest.raises(ProtocolError) as caught:
            decode(frame)
        assert caught.value.reason == "command"

    @pytest.mark.parametrize(
        ("decode", "whose"), [(decode_client_command, "client"), (decode_server_command, "server")]
    )
    def test_the_error_tells_what_was_expected(self, decode: Decode, whose: str) -> None:
        """It says whose command was awaited, and names what came instead."""
        with pytest.raises(ProtocolError, match=f"^not a command of a {whose}: .*quit"):
            decode(control(["quit"]))

    @pytest.mark.parametrize("content", [content for _, content in SAMPLES])
    @pytest.mark.parametrize("decode", READERS)
    def test_the_number_of_fields_is_fixed(self, decode: Decode, content: list[Any]) -> None:
        """A command with a field too many, or too few, or with bytes behind it is refused."""
        for wrong in ([*content, 0], [*content, None], content[:-1]):
            assert take_or_refuse(decode, control(wrong)) is None
        assert take_or_refuse(decode, control(content) + b"\x00") is None

    @pytest.mark.parametrize("command", [command for command, _ in SAMPLES])
    @pytest.mark.parametrize("decode", READERS)
    def test_no_part_is_taken_for_the_whole(self, decode: Decode, command: Command) -> None:
        """A command that ends early is refused, wherever it ends."""
        frame = encode_command(command)
        assert [end for end in range(len(frame)) if take_or_refuse(decode, frame[:end]) is not None] == []

    @pytest.mark.parametrize("command", [command for command, _ in SAMPLES])
    @pytest.mark.parametrize("decode", READERS)
    def test_any_byte_may_be_any_other(self, decode: Decode, command: Command) -> None:
        """With one byte changed in any way, a command is another one or is refused."""
        frame = bytearray(encode_command(command))
        for at in range(1, len(frame)):
            right = frame[at]
            for wrong in range(256):
                frame[at] = wrong
                take_or_refuse(decode, bytes(frame))
            frame[at] = right

    @pytest.mark.parametrize("decode", READERS)
    @settings(max_examples=300)
    @given(frame=st.binary(max_size=100) | st.binary(max_size=100).map(b"|".__add__))
    def test_any_bytes_are_read_or_refused(self, decode: Decode, frame: bytes) -> None:
        """No bytes make anything happen but a command or our error."""
        take_or_refuse(decode, frame)

    @pytest.mark.parametrize("decode", READERS)
    @settings(max_examples=200)
    @given(
        tag=st.sampled_from([str(content[0]) for _, content in SAMPLES]),
        fields=st.lists(
            st.recursive(
                st.none() | st.booleans() | NUMBERS | st.floats() | TEXTS | st.binary(max_size=20),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
                max_leaves=5,
            ),
            max_size=6,
        ),
    )
    def test_any_fields_are_read_or_refused(self, decode: Decode, tag: str, fields: list[object]) -> None:
        """A known tag with any fields at all is a command, of one form only, or our error."""
        frame = control([tag, *fields])
        command = take_or_refuse(decode, frame)
        assert command is None or encode_command(command) == frame
