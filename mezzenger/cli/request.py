"""``mezzenger request``."""

from typing import Annotated, Final

import typer

from mezzenger.cli.application import Config
from mezzenger.cli.connection import Retries, SendPort, Server, SubPort, Timeout, connection_settings
from mezzenger.cli.exits import ExitCode, complain, reported
from mezzenger.cli.lines import read_all
from mezzenger.cli.payloads import headers_of, json_of, open_stdout, parsed, stdin, text_of
from mezzenger.cli.signals import StopSignals
from mezzenger.client.sync import Mezzenger
from mezzenger.errors import MezzengerError, RemoteError
from mezzenger.message import check_name

_COMMAND: Final = "mezzenger"


def request(
    *,
    name: Annotated[str, typer.Argument(help="What the request is called.")],
    payload: Annotated[
        str | None,
        typer.Argument(help="Text to send, behind -- if it begins with - and is no number; without it, stdin is sent."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Read the payload, and print the answer, as JSON.")] = False,
    header: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be given repeatedly.")] = None,
    config: Config = None,
    server: Server = None,
    send_port: SendPort = None,
    sub_port: SubPort = None,
    timeout: Timeout = None,
    retries: Retries = None,
) -> None:
    """Have one subscriber of NAME answer PAYLOAD, or all of stdin, and print what its callback returned.

    The answer may take as long as --timeout says; without that, send_timeout x (1 + connection_retries) of the
    configuration. Exit code 1 if nobody answers, or the callback raised.
    """
    signals = StopSignals()
    with reported(_COMMAND):
        check_name(name)
        headers = headers_of(header or [])
        settings = connection_settings(
            config=config, server=server, send_port=send_port, sub_port=sub_port, timeout=timeout, retries=retries
        )
        open_stdout(in_utf8=as_json)
        try:
            if payload is None:
                question = parsed(read_all(stdin(), signals.wait_for_input), "stdin", as_json=as_json)
            else:
                question = parsed(payload, "PAYLOAD", as_json=as_json)
            with Mezzenger(settings=settings) as client:
                patience = None if timeout is None else settings.send_timeout
                answer = client.request(name, question, patience, headers=headers or None)
        except RemoteError as error:
            # Its traceback says much to who wrote the responder, and stands in that one's log.
            raise MezzengerError(f"the responder to {name!r} failed: {error.type}: {error.text}") from None
        except KeyboardInterrupt:
            complain(_COMMAND, "interrupted before there was an answer")
            raise typer.Exit(ExitCode.SIGNAL + (signals.received or 0)) from None
        print(_json(name, answer) if as_json else text_of(answer))


def _json(name: str, answer: object) -> str:
    try:
        return json_of(answer)
    except (TypeError, ValueError, RecursionError) as error:
        raise MezzengerError(f"the answer to {name!r} cannot be printed as JSON: {error}") from None
