"""Tables for people."""

from collections.abc import Iterable, Sequence


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print texts below their headings, as wide as the terminal allows."""
    # Loaded for people only: scripts, which call our commands often, need not wait for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    # A file's name may hold brackets, which are markup in a str.
    table = Table(*columns, title=title and Text(title, "table.title"), title_justify="left")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
