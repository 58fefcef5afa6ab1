"""``mezzenger store``: looks after the file of a server that is not running."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mezzenger.cli.exits import BadInput, ExitCode, is_terminal, reported
from mezzenger.cli.payloads import open_stdout
from mezzenger.cli.signals import StopSignals
from mezzenger.cli.table import print_table

if TYPE_CHECKING:
    from mezzenger.storage.check import Report
    from mezzenger.storage.repair import Outcome, RescuedName
    from mezzenger.storage.verify import Progress

_COMMAND: Final = "mezzenger"
_WORDS: Final = {"message": "waiting", "delayed": "delayed", "dead": "dead letters", "retained": "last messages"}
_MANY: Final = 20

File = Annotated[Path, typer.Argument(metavar="FILE", help="The server's persist_file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")]

store = typer.Typer(no_args_is_help=True)


@store.callback()
def _store() -> None:
    """Check and repair the persist file of a server that is not running.

    Exit codes: 0 fine, 2 no such file or bad argument, 4 damaged, in use, or cannot be repaired.
    """


@store.command(short_help="Tell what is damaged.")
def check(file: File, as_json: AsJson = False) -> None:
    """Look at every byte and every message of FILE, and tell what is damaged; nothing is changed."""
    with reported(_COMMAND), _interruptible(), _locked(file), _progress() as progress:
        open_stdout(in_utf8=as_json)
        from mezzenger.storage import check as storage  # noqa: PLC0415  # the server's half, only when it is needed

        try:
            report = storage.check(file, progress)
        except OSError as error:
            raise _unreadable(file, error) from None
    _show_report(file, report, as_json=as_json)
    if not report.is_sound:
        raise typer.Exit(ExitCode.STORAGE)


@store.command(short_help="Rescue what is intact.")
def repair(file: File, as_json: AsJson = False) -> None:
    """Rescue what is intact in FILE into a new file that takes its place.

    The damaged file is kept beside it as FILE.damaged. If nothing is damaged, nothing is changed.
    """
    with reported(_COMMAND), _interruptible(), _locked(file), _progress() as progress:
        open_stdout(in_utf8=as_json)
        from mezzenger.storage import repair as storage  # noqa: PLC0415  # the server's half, only when it is needed

        outcome = storage.repair(file, progress)
    _show_outcome(file, outcome, as_json=as_json)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let signals that end the command be ones that it cleans up after."""
    signals = StopSignals()
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.SIGNAL + (signals.received or 0)) from None


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep servers away from the file during the block."""
    from mezzenger.storage.files import Files  # noqa: PLC0415
    from mezzenger.storage.lock import FileLock  # noqa: PLC0415

    files = Files.of(file)
    try:
        is_there = any(path.is_file() for path in (*files, files.repaired().seal))
    except OSError as error:
        raise _unreadable(file, error) from None
    if not is_there:
        raise BadInput(f"{file}: no such file")
    lock = FileLock(file)
    try:
        yield
    finally:
        lock.release()


def _unreadable(file: Path, error: OSError) -> Exception:
    from mezzenger.errors import StorageError  # noqa: PLC0415

    return StorageError(f"{file}: cannot be read: {error.strerror}")


@contextmanager
def _progress() -> Iterator["Progress"]:
    """Show on stderr how far it is, if that is a terminal."""
    if not is_terminal(sys.stderr):
        yield lambda _done, _all: None
        return
    # Slow to load, and not needed in scripts.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading")
        yield lambda done, all_: bar.update(task, completed=done, total=all_)


def _show_report(file: Path, report: "Report", *, as_json: bool) -> None:
    if as_json:
        found = [finding._asdict() for finding in report.findings]
        print(
            json.dumps({"sound": report.is_sound, "sealed": report.has_seal, "frames": report.frames, "damage": found})
        )
        return
    if report.is_sound:
        counts = ", ".join(f"{count} {_WORDS[table]}" for table, count in report.frames.items())
        seal = "" if report.has_seal else "; it has no seal, so that some damage would not be noticed"
        print(f"{file}: sound: {counts}{seal}")
        return
    rows = [(finding.what, finding.problem, finding.meaning) for finding in report.findings]
    _show_table(f"{file} is damaged", ("what", "problem", "what that means"), rows)
    print(f"Rescue what is intact with: mezzenger store repair {file}")


def _show_outcome(file: Path, outcome: "Outcome", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_as_object(outcome)))
        return
    if not outcome.findings:
        print(f"{file}: sound; nothing was changed")
        return
    rows = [
        (_WORDS[row.table], row.name or "(not known)", str(row.frames), str(len(row.lost)), _numbers(row.lost))
        for row in outcome.names
    ]
    _show_table(f"{file} is repaired", ("what", "name", "rescued", "lost", "numbers of the lost"), rows)
    if outcome.uncertain:
        print(f"{outcome.uncertain} of the rescued frames may have been settled before: they may be delivered twice")
    print(f"{outcome.publishers} publishers are known")
    if outcome.publishers_lost:
        print(f"publishers lost: {outcome.publishers_lost}; a publish that one sends again may be stored twice")
    print(f"the damaged file is kept as {outcome.kept_as}")


def _as_object(outcome: "Outcome") -> dict[str, object]:
    def of_name(row: "RescuedName") -> dict[str, object]:
        return {"table": row.table, "name": row.name or None, "rescued": row.frames, "lost": list(row.lost)}

    return {
        "changed": bool(outcome.findings),
        "damage": [finding._asdict() for finding in outcome.findings],
        "names": list(map(of_name, outcome.names)),
        "uncertain": outcome.uncertain,
        "publishers": outcome.publishers,
        "publishers_lost": outcome.publishers_lost or None,
        "kept_as": None if outcome.kept_as is None else str(outcome.kept_as),
    }


def _numbers(numbers: Sequence[int]) -> str:
    shown = " ".join(map(str, numbers[:_MANY]))
    return shown + (f" and {len(numbers) - _MANY} more" if len(numbers) > _MANY else "")


def _show_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not is_terminal(sys.stdout):
        print(title)
        for row in rows:
            print("  " + ", ".join(f"{column}: {value}" for column, value in zip(columns, row, strict=True) if value))
        return
    print_table(columns, rows, title)
