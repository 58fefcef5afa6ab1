"""Shows results: as tables on a terminal, as plain text elsewhere, and as Markdown for the page."""

import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TextIO

from rich.console import Console
from rich.table import Table

from benchmarks.figures import GOALS, Figure, Measured, Results, ratio
from benchmarks.peers.registry import PEERS
from benchmarks.workloads import WORKLOADS, Kind, Workload

MAIN: Final = {
    Kind.STREAM: "per_second",
    Kind.ECHO: "p50",
    Kind.ECHO_AT_HALF_LOAD: "p50",
    Kind.IDLE: "idle_cpu",
}
"""What the ratios of a kind of work are of."""

_COSTS: Final = ("throughput-16", "throughput-150", "throughput-4k", "throughput-1m", "durable-window")
_NOTHING: Final = "-"


class Sheet(NamedTuple):
    """A table: the first two columns are text, the others numbers."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def sheets(results: Results) -> list[Sheet]:
    """Return all tables that have a row."""
    made = [
        _rates(results),
        _send_latencies(results),
        _echoes(results),
        _costs(results),
        _idle(results),
        goals(results),
    ]
    return [sheet for sheet in made if sheet.rows]


def goals(results: Results) -> Sheet:
    """Return what is to be reached and what was."""
    rows = []
    for goal in GOALS:
        value = goal.reached(results)
        if value is not None:
            target = f"{'at least' if goal.at_least else 'at most'} {goal.target:g}"
            rows.append([goal.text, target, f"{value:.2f}", goal.verdict(results)])
    return Sheet("Goals", ["Mezzenger's", "goal", "reached", ""], rows)


def _rates(results: Results) -> Sheet:
    headings = ["messages a second", "", "median", "range", "Mezzenger is", "lost"]

    def row(workload: Workload, peer: str, measured: Measured) -> list[str]:
        found = measured.figure("per_second")
        return [
            _count(found.median if found else None),
            measured.failure or _range(found, ",.0f"),
            _times(results, workload, peer),
            f"{measured.lost:,}",
        ]

    return Sheet("Throughput", headings, _rows(results, {Kind.STREAM}, row))


def _send_latencies(results: Results) -> Sheet:
    headings = ["one send at a time", "", "p50, us", "p99, us", "p99.9, us"]

    def row(_workload: Workload, _peer: str, measured: Measured) -> list[str]:
        return [_median(measured, metric, ",.1f") for metric in ("p50", "p99", "p999")]

    rows = _rows(results, {Kind.STREAM}, row)
    return Sheet("Latency of a send", headings, [one for one in rows if one[2] != _NOTHING])


def _echoes(results: Results) -> Sheet:
    headings = ["echo", "", "p50, us", "p99, us", "p99.9, us", "range of p50", "p50, p99: Mezzenger is"]

    def row(workload: Workload, peer: str, measured: Measured) -> list[str]:
        shown = [_median(measured, metric, ",.0f") for metric in ("p50", "p99", "p999")]
        both = f"{_times(results, workload, peer)}, {_times(results, workload, peer, 'p99')}"
        return [*shown, measured.failure or _range(measured.figure("p50"), ",.0f"), both if peer != "mezzenger" else ""]

    return Sheet("Latency of an echo", headings, _rows(results, {Kind.ECHO, Kind.ECHO_AT_HALF_LOAD}, row))


def _costs(results: Results) -> Sheet:
    headings = ["CPU seconds per million", "", "server", "publisher", "subscriber"]

    def row(_workload: Workload, _peer: str, measured: Measured) -> list[str]:
        return [_median(measured, f"{role}_cpu", ",.2f") for role in ("server", "publisher", "subscriber")]

    return Sheet("CPU", headings, _rows(results, {Kind.STREAM}, row, _COSTS))


def _idle(results: Results) -> Sheet:
    headings = ["idle server", "", "% of a core", "resident MB"]

    def row(_workload: Workload, _peer: str, measured: Measured) -> list[str]:
        return [_median(measured, "idle_cpu", ".2f"), _median(measured, "rss", ".0f")]

    return Sheet("Idle", headings, _rows(results, {Kind.IDLE}, row))


def _rows(
    results: Results,
    kinds: set[Kind],
    row: Callable[[Workload, str, Measured], list[str]],
    names: Sequence[str] = tuple(WORKLOADS),
) -> list[list[str]]:
    made = []
    for name, peers in results.workloads.items():
        workload = WORKLOADS[name]
        if workload.kind not in kinds or name not in names:
            continue
        title = workload.title
        for peer, measured in sorted(peers.items(), key=lambda item: list(PEERS).index(item[0])):
            made.append([title, PEERS[peer].title, *row(workload, peer, measured)])
            title = ""  # once is enough
    return made


def _times(results: Results, workload: Workload, peer: str, metric: str | None = None) -> str:
    metric = metric or MAIN[workload.kind]
    ours = results.median(workload.name, "mezzenger", metric)
    found = ratio(ours, results.median(workload.name, peer, metric)) if ours else None
    return "" if found is None or peer == "mezzenger" else f"{found:.2f} x"


def _count(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:,.0f}"


def _median(measured: Measured, metric: str, form: str) -> str:
    found = measured.figure(metric)
    return _NOTHING if found is None else format(found.median, form)


def _range(found: Figure | None, form: str) -> str:
    return _NOTHING if found is None else f"{found.low:{form}} to {found.high:{form}}"


def machine_line(results: Results) -> str:
    """Return on what it was measured, in one line."""
    one = results.machine
    return (
        f"{one['date']}, {one['cores']} cores {one['processor']}, {one['memory_gb']} GB, {one['system']}, "
        f"Python {one['python']}, {one['rounds']} rounds of about {one['seconds']:g} s, "
        f"load average of the machine before: {one['load_before']}"
    )


def show(results: Results, output: TextIO | None = None) -> None:
    """Print all tables: drawn on a terminal, otherwise with spaces only."""
    output = output or sys.stdout
    console = Console(file=output) if output.isatty() else None
    for sheet in sheets(results):
        if console:
            console.print(_drawn(sheet))
        else:
            print(_plain(sheet), file=output)
    for peer, command in results.skipped.items():
        print(f"{PEERS[peer].title} is not installed; to measure it: {command}", file=output)
    print(machine_line(results), file=output)


def _drawn(sheet: Sheet) -> Table:
    table = Table(title=sheet.title, title_justify="left")
    for number, heading in enumerate(sheet.headings):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for row in sheet.rows:
        table.add_row(*row)
    return table


def _plain(sheet: Sheet) -> str:
    lines = [sheet.headings, *sheet.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        "  ".join(
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([sheet.title, *padded, ""])


def markdown(sheet: Sheet) -> str:
    """Return a table of a page."""
    aligned = ["---" if number < 2 else "---:" for number in range(len(sheet.headings))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [sheet.headings, aligned, *sheet.rows])
