"""
What a command shows: its result on stdout, and progress, warnings and errors on stderr.

Progress is what the package logs. On a terminal it is shown beside a bar for each step; elsewhere,
as lines.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from airflow_provider_reportrun.text import one_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

CREATE: Final = "Create"
WAIT: Final = "Wait"
LAND: Final = "Land"
STEPS: Final = (CREATE, WAIT, LAND)
_LONGEST_LINE: Final = 2000


class Steps(Protocol):
    """Shows how far a run is."""

    def begin(self, step: str) -> None:
        """Begin a step; those before it are done."""

    def received(self, count: int, size: int | None) -> None:
        """Tell how many bytes of a result have arrived, of how many."""

    def done(self) -> None:
        """Show all steps as done."""


class Lines:
    """Shows nothing by itself: what is logged are lines already."""

    def begin(self, step: str) -> None:
        """Show nothing."""

    def received(self, count: int, size: int | None) -> None:
        """Show nothing."""

    def done(self) -> None:
        """Show nothing."""


class Bars(logging.Handler):
    """Shows a bar for each step, and beside it the last message that was logged."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress
        self._tasks = {
            step: progress.add_task(step, total=1, start=False, text="") for step in STEPS
        }
        self._current: TaskID | None = None

    def begin(self, step: str) -> None:
        """Begin a step; those before it are done."""
        if self._tasks[step] == self._current:
            return
        self._finish_current()
        self._current = self._tasks[step]
        self._progress.reset(self._current, start=True, total=None)

    def received(self, count: int, size: int | None) -> None:
        """Move the last bar."""
        of = f" of {size / 1e6:.1f}" if size else ""
        self._progress.update(
            self._tasks[LAND], completed=count, total=size, text=f"{count / 1e6:.1f}{of} MB"
        )

    def done(self) -> None:
        """Show all steps as done."""
        self._finish_current()
        self._current = None

    def _finish_current(self) -> None:
        if self._current is not None:
            self._progress.update(self._current, total=1, completed=1)
            self._progress.stop_task(self._current)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message beside the current bar; show a warning above the bars."""
        text = one_line(record.getMessage(), _LONGEST_LINE)
        if record.levelno >= logging.WARNING or self._current is None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._progress.update(self._current, text=text)


@contextmanager
def steps_shown() -> Iterator[Steps]:
    """Show the steps of a run while the block runs: as bars on a terminal."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(min_width=6)),
        BarColumn(bar_width=20, table_column=Column(min_width=20)),
        TimeElapsedColumn(table_column=Column(min_width=7)),
        TextColumn(
            "{task.fields[text]}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as progress:
        bars = Bars(progress)
        with _logged_by(bars):
            yield bars


@contextmanager
def log_shown() -> Iterator[None]:
    """Write what this package logs to stderr, one line each, and of other logs only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    others = logging.root, logging.getLogger("airflow")
    levels = [logger.level for logger in others]
    for logger, level in zip(others, levels, strict=True):
        logger.setLevel(max(level, logging.WARNING))
    try:
        with _logged_by(handler):
            yield
    finally:
        for logger, level in zip(others, levels, strict=True):
            logger.setLevel(level)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record), _LONGEST_LINE)


@contextmanager
def _logged_by(handler: logging.Handler) -> Iterator[None]:
    """Let one handler alone have what this package logs, from INFO on."""
    logger = logging.getLogger("airflow_provider_reportrun")
    before = logger.handlers[:], logger.level, logger.propagate, logger.disabled
    logger.handlers[:], logger.propagate, logger.disabled = [handler], False, False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers[:], level, logger.propagate, logger.disabled = before
        logger.setLevel(level)


class Output:
    """
    Prints results on the real stdout.

    :param as_json: whether results are JSON.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout: IO[str] = sys.stdout

    @contextmanager
    def kept_clean(self) -> Iterator[None]:
        """Send to stderr what others write to stdout, such as the handlers of Airflow's log."""
        out, err = sys.stdout, sys.stderr
        named = (each for each in logging.root.manager.loggerDict.values())
        loggers = [logging.root, *(each for each in named if isinstance(each, logging.Logger))]
        moved = [
            handler
            for logger in loggers
            for handler in logger.handlers
            # Airflow 3.0 has handlers that look up the current stdout, and cannot be set.
            if isinstance(handler, logging.StreamHandler) and vars(handler).get("stream") is out
        ]
        for handler in moved:
            handler.setStream(err)
        sys.stdout = err
        try:
            yield
        finally:
            sys.stdout = out
            for handler in moved:
                handler.setStream(out)

    def show(self, facts: Any, lines: Iterable[str]) -> None:
        """
        Print a result.

        :param facts: what ``--json`` prints.
        :param lines: what is printed otherwise.
        """
        if self.as_json:
            lines = [json.dumps(facts, indent=2, ensure_ascii=False, default=str)]
        self._stdout.writelines(f"{line}\n" for line in lines)
        self._stdout.flush()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align the cells of rows; two spaces apart, so that ``awk`` and people can read them."""
    cells = [head, *([one_line(cell, _LONGEST_LINE) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
