"""Draws the medians and ranges of the main workloads as an SVG picture."""

from html import escape
from typing import Final

from benchmarks.figures import Figure, Results
from benchmarks.peers.registry import PEERS
from benchmarks.report import MAIN
from benchmarks.workloads import WORKLOADS, Kind

_PANELS: Final = (
    "throughput-150",
    "throughput-1m",
    "fan-out-100",
    "names-10000",
    "durable-window",
    "durable-single",
    "echo-idle",
    "echo-half",
)
_WIDTH: Final = 900
_COLUMNS: Final = 2
_PANEL: Final = _WIDTH // _COLUMNS
_LABEL: Final = 188
_BAR: Final = 150
_LINE: Final = 22
_TITLE: Final = 34
_GAP: Final = 22
_UNITS: Final = {Kind.STREAM: "messages handled/s", Kind.ECHO: "p50 in us, less is better"}

_OURS: Final = "#c2410c"
_LIMIT: Final = "#9ca3af"
_OTHERS: Final = "#3b82a6"
_TEXT: Final = "#1f2937"


def draw(results: Results) -> str:
    """Return the picture; a workload that was not measured is left out."""
    present = [name for name in _PANELS if name in results.workloads]
    parts: list[str] = []
    top = _GAP // 2
    for begin in range(0, len(present), _COLUMNS):
        row = present[begin : begin + _COLUMNS]
        for column, name in enumerate(row):
            parts += _panel(results, name, column * _PANEL + 16, top)
        top += _TITLE + _GAP + _LINE * max(len(results.workloads[name]) for name in row)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}" '
        f'font-family="sans-serif" font-size="12" fill="{_TEXT}">'
    )
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>', *parts, "</svg>", ""])


def _panel(results: Results, name: str, left: int, top: int) -> list[str]:
    workload = WORKLOADS[name]
    unit = _UNITS.get(workload.kind, _UNITS[Kind.ECHO])
    peers = sorted(results.workloads[name], key=list(PEERS).index)
    found = {peer: results.workloads[name][peer].figure(MAIN[workload.kind]) for peer in peers}
    highest = max((figure.high for figure in found.values() if figure), default=1.0)
    title = f'{escape(workload.title)}<tspan font-weight="normal" fill="#6b7280"> ({escape(unit)})</tspan>'
    parts = [f'<text x="{left}" y="{top + 16}" font-weight="bold">{title}</text>']
    for number, (peer, figure) in enumerate(found.items()):
        middle = top + _TITLE + number * _LINE
        parts.append(f'<text x="{left}" y="{middle + 4}">{escape(PEERS[peer].title)}</text>')
        if figure:
            parts += _bar(figure, highest, left + _LABEL, middle, _colour(peer))
    return parts


def _bar(figure: Figure, highest: float, left: int, middle: int, colour: str) -> list[str]:
    width, low, high = (round(value / highest * _BAR, 1) for value in (figure.median, figure.low, figure.high))
    line = f"M{left + low} {middle}H{left + high}M{left + low} {middle - 4}v8M{left + high} {middle - 4}v8"
    return [
        f'<rect x="{left}" y="{middle - 7}" width="{width}" height="14" rx="2" fill="{colour}"/>',
        f'<path d="{line}" stroke="{_TEXT}" opacity="0.6"/>',
        f'<text x="{left + max(width, high) + 8}" y="{middle + 4}">{figure.median:,.0f}</text>',
    ]


def _colour(peer: str) -> str:
    if peer.startswith("mezzenger"):
        return _OURS
    return _LIMIT if peer.startswith("raw") else _OTHERS
