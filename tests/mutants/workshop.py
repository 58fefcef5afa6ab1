"""Tries mutants on copies of the tree, several at a time."""

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from tests.mutants.mutant import DoesNotApplyError, Mutant

ROOT: Final = Path(__file__).parent.parent.parent
NEEDED: Final = ("mezzenger", "tests", "docs", "examples", "README.md", "pyproject.toml", "mezzenger.example.yaml")
"""What the tests need of the tree."""
TEST_SECONDS: Final = 120
"""A test that a mutant makes wait for ever fails after so long; on a busy machine others take their time, too."""
RUN_SECONDS: Final = 300

_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) tests/(\S+)(?: - (.+))?", re.MULTILINE)
_PASSED: Final = re.compile(r"(\d+) passed")
_TESTS_FAILED: Final = 1
"""The exit status of pytest; all others but 0 mean that tests were not run as they should."""


class Outcome(StrEnum):
    """What came of a mutant."""

    CAUGHT = "caught"
    SURVIVED = "survived"
    BROKEN = "broken"
    """It does not apply, or the tests cannot be run with it, or fail without it."""
    NOT_TRIED = "not tried"
    """All its tests are skipped on this machine."""


class Result(NamedTuple):
    """A mutant that was tried."""

    mutant: Mutant
    outcome: Outcome
    by: str
    """Which test failed first; or what is wrong."""
    seconds: float


class Run(NamedTuple):
    """What pytest said."""

    status: int | None
    """None if it took too long."""
    output: str

    @property
    def first_failed(self) -> str | None:
        """The test that failed first, or the file that could not be read."""
        found = _FAILED.search(self.output)
        return None if found is None else found[1]

    @property
    def what_is_wrong(self) -> str:
        """The test that failed first, and why; without one, the end of what was said."""
        found = _FAILED.search(self.output)
        return self.last_lines if found is None else " - ".join(part for part in found.groups() if part)

    @property
    def last_lines(self) -> str:
        """The end of what it said, in one line."""
        return " / ".join(self.output.strip().splitlines()[-3:]) or "it said nothing"


class Workshop:
    """Copies of the tree, one for each job, in which the tests are run.

    Args:
        folder: For the copies.
        jobs: How many tests are run at a time.
    """

    def __init__(self, folder: Path, jobs: int) -> None:
        self._jobs = jobs
        self._copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        self._running: set[subprocess.Popen[str]] = set()
        self._is_over = False
        for number in range(jobs):
            self._copies.put(_copied(folder / f"copy{number}"))

    def check(self, mutants: Sequence[Mutant]) -> dict[tuple[str, ...], str]:
        """Run the tests of these mutants without any mutant.

        Returns:
            What is wrong, for each set of tests that cannot be used: they fail, or are skipped, which is an empty text.
        """
        sets = list(dict.fromkeys(mutant.tests for mutant in mutants))
        wrong: dict[tuple[str, ...], str] = {}
        with ThreadPoolExecutor(self._jobs) as pool:
            for tests, run in zip(sets, pool.map(self._run_unmutated, sets), strict=True):
                if run.status != 0:
                    wrong[tests] = f"its tests fail without it: {run.what_is_wrong}"
                elif not _PASSED.search(run.output):
                    wrong[tests] = ""
        return wrong

    def results(self, mutants: Sequence[Mutant], wrong: Mapping[tuple[str, ...], str]) -> Iterator[Result]:
        """Try mutants, and yield what comes of each as soon as it is known."""
        with ThreadPoolExecutor(self._jobs) as pool:
            waiting: set[Future[Result]] = {pool.submit(self._try, mutant, wrong) for mutant in mutants}
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            finally:
                for future in waiting:
                    future.cancel()

    def stop(self) -> None:
        """End what is running."""
        self._is_over = True
        for process in list(self._running):
            _kill(process)

    def _run_unmutated(self, tests: tuple[str, ...]) -> Run:
        with self._copy() as copy:
            return self._pytest(copy, tests)

    def _try(self, mutant: Mutant, wrong: Mapping[tuple[str, ...], str]) -> Result:
        if mutant.tests in wrong:
            text = wrong[mutant.tests]
            return Result(mutant, Outcome.BROKEN if text else Outcome.NOT_TRIED, text or "its tests are skipped", 0.0)
        start = time.monotonic()
        with self._copy() as copy:
            path = mutant.path(copy)
            text = path.read_text("utf-8")
            try:
                path.write_text(mutant.mutated(text), "utf-8")
                run = self._pytest(copy, mutant.tests)
            except DoesNotApplyError as error:
                return Result(mutant, Outcome.BROKEN, str(error), 0.0)
            finally:
                path.write_text(text, "utf-8")
        return Result(mutant, *_judged(run), time.monotonic() - start)

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        copy = self._copies.get()
        try:
            yield copy
        finally:
            self._copies.put(copy)

    def _pytest(self, copy: Path, tests: Sequence[str]) -> Run:
        if self._is_over:
            return Run(None, "")
        options = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-o", f"timeout={TEST_SECONDS}"]
        command = [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)]
        # In a session of its own: with it, all that its tests have started can be ended.
        with subprocess.Popen(
            command,
            cwd=copy,
            env=_environment(copy),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            self._running.add(process)
            try:
                output, _ = process.communicate(timeout=RUN_SECONDS)
            except subprocess.TimeoutExpired:
                return Run(None, f"its tests take longer than {RUN_SECONDS} s")
            finally:
                _kill(process)
                self._running.discard(process)
        return Run(process.returncode, output)


@contextmanager
def workshop(jobs: int) -> Iterator[Workshop]:
    """Have a workshop, and nothing of it left afterwards."""
    with TemporaryDirectory(prefix="mezzenger-mutants-") as folder:
        shop = Workshop(Path(folder), jobs)
        try:
            yield shop
        finally:
            shop.stop()


def _judged(run: Run) -> tuple[Outcome, str]:
    if run.status == 0:
        return Outcome.SURVIVED, ""
    if run.status == _TESTS_FAILED and run.first_failed is not None:
        return Outcome.CAUGHT, run.first_failed
    return Outcome.BROKEN, run.last_lines


def _copied(folder: Path) -> Path:
    folder.mkdir()
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            # No compiled files: they might be taken for those of a mutated module.
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    code = "import mezzenger; print(mezzenger.__file__)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=True)
    if not Path(found.stdout.strip()).resolve().is_relative_to(folder.resolve()):
        raise RuntimeError(f"the tests would run {found.stdout.strip()}, not the copy in {folder}")
    return folder


def _environment(copy: Path) -> dict[str, str]:
    """The environment in which the copy is imported, and nothing is measured or kept."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "COV_", "PYTEST_"))}
    return environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}


def _kill(process: subprocess.Popen[str]) -> None:
    """End the session of a process that we have started."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
