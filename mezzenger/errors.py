"""Every error Mezzenger raises, in one tree.

MezzengerError
├── ConfigurationError        a setting is wrong: file, line, key and what to write instead
├── InvalidName               a name, pattern or group that cannot be used
├── InvalidMessage            ack, headers, ttl or delay that cannot be used
├── InvalidCallback           subscribe() was given something that cannot be called back
├── InvalidMembership         subscribe() was told something of a member that cannot be
├── InvalidChannel            a channel whose type or codec cannot be used
├── PayloadError
│   ├── PayloadNotEncodable   the sender's codec cannot write this object
│   ├── PayloadNotDecodable   the receiver's codec cannot read these bytes
│   ├── PayloadInvalid        not of its channel's type
│   └── UntrustedPayload      a pickle from a server there is no reason to trust
├── MessageTooLarge           above the server's ``max_message_size``; nothing was sent
├── AlreadySubscribed         this client has a callback for that name
├── NotSubscribed             this client has none
├── NoDeadLetter              there is no dead letter with that number
├── RequestError              a request that has no result
│   ├── NoResponders          nobody subscribes to its name; nothing was run
│   ├── RequestTimeout        no response in time
│   ├── RequestLost           a connection broke before there was a response; it may have been carried out
│   └── RemoteError           the responder's callback raised, or its result cannot be sent
├── ServerUnreachable         no answer within ``send_timeout`` x (1 + ``connection_retries``)
├── Rejected                  the server answered, and refused; ``reason`` says why
├── ClientStopped             the client was stopped
├── UsedAfterFork             the client belongs to the parent process
├── UsedInAnotherLoop         the client belongs to another asyncio loop
├── ProtocolError             bytes from the other end that are not Mezzenger's protocol
├── BindError                 the server cannot listen on its address
└── StorageError              the server cannot keep what it was asked to keep
    └── StorageFull           for lack of space; it can again when there is some
"""


class MezzengerError(Exception):
    """Base of every error that Mezzenger raises on purpose."""


class ConfigurationError(MezzengerError):
    """Settings that cannot be used.

    Attributes:
        problems: One line for each thing that is wrong, such as
            ``mezzenger.yaml:12: server.pub_port: must be at most 65535 (got 99999)``.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InvalidName(MezzengerError):
    """A name, pattern or group that is no text, or empty, too long, or holds ``|`` or a control character.

    Or it has a wildcard, and is to name one message.
    """


class InvalidMessage(MezzengerError):
    """A message whose ``ack``, ``headers``, ``ttl`` or ``delay`` cannot be used."""


class InvalidCallback(MezzengerError):
    """A callback that is not callable with ``(payload, msg_obj)``."""


class InvalidMembership(MezzengerError):
    """A ``prefetch``, ``max_runtime``, ``order_by`` or ``concurrency`` that cannot be, or one without a group."""


class InvalidChannel(MezzengerError):
    """A channel whose type pydantic cannot validate, whose type has no JSON schema, or whose codec is none."""


class PayloadError(MezzengerError):
    """A payload that cannot be written to bytes, or read back from them."""


class PayloadNotEncodable(PayloadError):
    """The codec cannot write the payload; nothing was sent."""


class PayloadNotDecodable(PayloadError):
    """The codec cannot read the payload's bytes."""


class PayloadInvalid(PayloadError):
    """The payload is not of its channel's type; at the sender nothing was sent.

    Its ``__cause__`` is pydantic's ``ValidationError``, which has the details for programs.
    """


class UntrustedPayload(PayloadError):
    """A pickled payload came from a server that this client has no reason to trust."""


class MessageTooLarge(MezzengerError):
    """The message is larger than the server takes; nothing was sent."""


class AlreadySubscribed(MezzengerError):
    """This client has a callback for the name already."""


class NotSubscribed(MezzengerError):
    """This client has no callback for the name."""


class NoDeadLetter(MezzengerError):
    """The server keeps no dead letter with this number, or not any more."""


class RequestError(MezzengerError):
    """A request that has no result."""


class NoResponders(RequestError):
    """Nobody who could answer subscribes to the name; nothing was run."""


class RequestTimeout(RequestError):
    """There was no response in time; the request may have been carried out, or still is."""


class RequestLost(RequestError):
    """The connection to the server, or the responder's, broke first; the request may have been carried out."""


class RemoteError(RequestError):
    """The responder's callback raised, or could not be called, or what it returned cannot be sent.

    Attributes:
        type: The name of the error's type, such as ``ValueError``.
        text: What the error says.
        traceback: The last lines of the responder's traceback; empty if no callback was running.
    """

    def __init__(self, name: str, type: str, text: str, traceback: str) -> None:  # noqa: A002  # the attribute's name
        shown = f"\n{traceback}" if traceback else ""
        super().__init__(f"the responder to {name!r} failed: {type}: {text}{shown}")
        self.type = type
        self.text = text
        self.traceback = traceback


class ServerUnreachable(MezzengerError):
    """The server did not answer in time."""


class Rejected(MezzengerError):
    """The server refused what it was asked.

    Attributes:
        reason: A stable word for programs, such as ``digest`` or ``storage``.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{text} ({reason})")
        self.reason = reason


class ClientStopped(MezzengerError):
    """The client was stopped and cannot be used any more; make a new one."""


class UsedAfterFork(MezzengerError):
    """The client was made before ``fork()``; the child process must make its own."""


class UsedInAnotherLoop(MezzengerError):
    """The client was connected in another asyncio loop; nothing was sent. Each loop must make its own."""


class ProtocolError(MezzengerError):
    """Bytes that are not a Mezzenger frame.

    Attributes:
        reason: A stable word for counters, such as ``version`` or ``digest``.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BindError(MezzengerError):
    """The server cannot listen on its address."""


class StorageError(MezzengerError):
    """The store did not keep what it was given; nothing of it may be confirmed."""


class StorageFull(StorageError):
    """There is no space left to keep it; a later attempt may succeed."""
