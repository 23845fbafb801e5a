"""What a test gets and gives: servers and models to use, figures held against their bounds."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import models
import server

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = ROOT / "models"
SCRATCH = ROOT / "target" / "reliability"
# Units of what other programs on the machine can spoil: times, rates and ratios of them.
OF_TIME = {"s", "x", "%", "/s"}
# Set by --shared-machine: bounds on those are shown and fail nothing.
shared_machine = False
# What decides the random choices of nightly tests: another each night, unless --seed repeats one.
seed = random.SystemRandom().randrange(1 << 32)
# No single test takes longer on a slow machine, unless it says so.
TEST_SECONDS = 100


@dataclass
class Row:
    promise: int
    test: str
    figure: str
    bound: str
    # "pass", "FAIL", "skip", "known": not held, for a reason that is known and reported, or "late": a
    # time that is not held on a machine that others use too.
    state: str
    seconds: float = 0

    def as_json(self) -> dict:
        return asdict(self)


class Skip(Exception):
    """Something that the test needs is not there."""


class Failed(Exception):
    """A state that the test waits for was not reached; nothing after it makes sense."""


class Test:
    """One run of one test."""

    def __init__(self, name: str, promise: int, command: list[str], scratch: Path, scale: float = 1):
        self.name, self.promise, self.command = name, promise, command
        self.scale = scale
        self.scratch = scratch / name
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.rows: list[Row] = []

    def times(self, count: int) -> int:
        """How often to do what the full run does `count` times."""
        return max(1, round(count * self.scale))

    # Figures.

    def hold(self, figure: str, bound: str, holds: bool, known: str = "", unit: str = "") -> None:
        """`known`: why it does not hold yet. A fault that is known does not fail the run, and is shown."""
        if not holds and known:
            figure += f" ({known})"
        is_late = shared_machine and unit in OF_TIME
        state = "pass" if holds else "known" if known else "late" if is_late else "FAIL"
        self.rows.append(Row(self.promise, self.name, figure, bound, state))

    def at_most(self, what: str, value: float, bound: float, unit: str = "", note: str = "", known: str = "") -> None:
        self.hold(f"{what}: {show(value, unit)}{note}", f"<= {show(bound, unit)}", value <= bound, known, unit)

    def at_least(self, what: str, value: float, bound: float, unit: str = "", note: str = "") -> None:
        self.hold(f"{what}: {show(value, unit)}{note}", f">= {show(bound, unit)}", value >= bound, unit=unit)

    def equal(self, what: str, value: object, expected: object) -> None:
        self.hold(f"{what}: {value}", f"= {expected}", value == expected)

    def none(self, what: str, problems: list, of: int | None = None, note: str = "") -> None:
        """No problem among `of` tries. The first ones are shown."""
        shown = (f" of {of:,}" if of is not None else "") + note
        for problem in list(problems)[:3]:
            shown += f"; {str(problem)[:300]}"
        self.hold(f"{what}: {len(problems)}{shown}", "= 0", not problems)

    # What tests run against.

    def folder(self, name: str = "models") -> Path:
        return self.scratch / name

    def models(self, **kinds: Callable[[Path], None]) -> Path:
        """A repository of models, each written by its function."""
        for name, write in kinds.items():
            write(self.folder() / name)
        return self.folder()

    def echo(self, features: int = 4) -> Path:
        return self.models(echo=lambda folder: models.echo(folder, features))

    @contextmanager
    def server(
        self, *settings: str, models: Path = SAMPLES, wrap: tuple[str, ...] = (), **options: object
    ) -> Iterator[server.Server]:
        """A running server, ended with the test. `wrap`: a command that runs it."""
        one = server.Server([*wrap, *self.command], models, list(settings), self.scratch, **options)
        with server.ended(one):
            yield one


@dataclass
class Entry:
    name: str
    promise: int
    claim: str
    function: Callable[[Test], None]
    # Takes too long for every run: only with --nightly, or by its name.
    nightly: bool
    # The longest that it takes on a slow machine.
    seconds: float
    # Whether it needs models that break down when told to.
    plants_faults: bool

    def run(self, command: list[str], scratch: Path, scale: float = 1) -> list[Row]:
        if self.plants_faults:
            command = [*command[:-1], program_with_faults()]
        test = Test(self.name, self.promise, command, scratch, scale)
        started = time.monotonic()

        def out_of_time(*_: object) -> None:
            raise AssertionError(f"not done in {self.seconds:g} s")

        signal.signal(signal.SIGALRM, out_of_time)
        signal.alarm(round(self.seconds))
        try:
            self.function(test)
        except Skip as reason:
            test.rows.append(Row(self.promise, self.name, str(reason), "", "skip"))
        except Exception as error:  # Whatever went wrong, the promise was not shown to hold.
            test.hold(f"{type(error).__name__}: {error}"[:500], "no error", False)
        finally:
            signal.alarm(0)
            server.end_all()
        if not test.rows:
            test.hold("nothing was measured", "a figure", False)
        for row in test.rows:
            row.seconds = round(time.monotonic() - started, 1)
        if all(row.state == "pass" for row in test.rows):
            shutil.rmtree(test.scratch, ignore_errors=True)
        return test.rows


# In the order in which they are imported.
entries: list[Entry] = []


def test(
    promise: int, nightly: bool = False, seconds: float = TEST_SECONDS, plants_faults: bool = False
) -> Callable[[Callable[[Test], None]], Callable[[Test], None]]:
    """Registers a test. Its name and its first line say what it claims."""

    def register(function: Callable[[Test], None]) -> Callable[[Test], None]:
        claim = (function.__doc__ or "").strip().splitlines()[0]
        entries.append(Entry(function.__name__, promise, claim, function, nightly, seconds, plants_faults))
        return function

    return register


def show(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
    if unit == "B":
        return f"{value / 1e6:.1f} MB"
    if unit == "%":
        return f"{value * 100:.1f} %"
    if unit == "x":
        return f"{value:.2f} x"
    number = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    return f"{number} {unit}".strip()


def program() -> str:
    """The server that is tested: SAFESERVE, else the release build of what is here."""
    named = os.environ.get("SAFESERVE")
    if named:
        return str(Path(named).resolve())
    build(ROOT)
    return str(ROOT / "target" / "release" / "safeserve")


def program_with_faults() -> str:
    """A debug build that has models that break down when told to, which no release build can have."""
    # Without what the tests with faults have no use for: it takes minutes to build.
    command = ["cargo", "build", "--no-default-features", "--features", "faults"]
    subprocess.run([*command, "--locked", "--quiet"], cwd=ROOT, check=True)
    copy = SCRATCH / "safeserve-with-faults"
    shutil.copy(ROOT / "target" / "debug" / "safeserve", copy)
    return str(copy)


def build(package: Path, *options: str) -> None:
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", *options], cwd=package, check=True)


DRIVER = ROOT / "target" / "driver" / "release" / "driver"


class Driver:
    """The program of the folder `driver`, at work."""

    @staticmethod
    def build() -> None:
        build(Path(__file__).resolve().parent / "driver", "--target-dir", str(ROOT / "target" / "driver"))

    def __init__(self, address: tuple[str, int], *arguments: object):
        command = [str(DRIVER), f"{address[0]}:{address[1]}", *map(str, arguments)]
        self.process = server.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def result(self) -> dict:
        """Lets it end, and gives what it found."""
        printed, _ = self.process.communicate()
        server.running.discard(self.process)
        if self.process.returncode:
            raise AssertionError(f"the driver ended with {self.process.returncode}")
        return json.loads(printed)


def show_rows(rows: list[Row]) -> list[Row]:
    """Prints rows of the table, and gives them back."""
    for row in rows:
        print(f"{row.promise} | {row.test} | {row.figure} | {row.bound} | {row.state}", flush=True)
    return rows
