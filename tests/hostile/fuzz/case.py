"""One case of the fuzzer: a valid file is changed, the program reads it, and how that ended is judged.

A case may end in two ways: what was read is right, or one :class:`InputError` says what is wrong. Anything else has failed:
another exception, a wrong answer, a hang, too much memory, code that was run from the file, a warning that a user would see.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from gz_lightning.cli import main
from gz_lightning.errors import InputError

SECONDS = 20.0
"""No case may take longer."""
MOST_ADDRESSES, MOST_RESIDENT = 2**31, 600 * 2**20
"""Bytes that a case may ask for, and that it may really use, beyond what the process holds already."""
HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Warnings that Python itself does not show a user."""
CANARY = "canary"
"""Name of the file that code from a hostile file would write into the folder of its case."""
FOLDERS = ("case", "a b", "größe ñ", "星系", "it's [one] {a}", "100%")


class WrongError(Exception):
    """What was read is not what the file can mean."""


class TooLong(BaseException):
    """The time is over; no ``except Exception`` keeps it."""


@dataclass
class Trial:
    """What a kind makes of a seed.

    Args:
        changed: What was done to the valid file, in words.
        read: Reads the result with the library, and raises :class:`WrongError` where an invariant does not hold.
        command: Instead of that, a command line, without the program's name.
        verify: Called after a command that ended well.
        named: One of these must be in the message of an error. Default: the folder of the case.
    """

    changed: str
    read: Callable[[], None] | None = None
    command: Sequence[str] = ()
    verify: Callable[[], None] = lambda: None
    named: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """How a case ended: ``read``, ``refused`` or ``failed``; with the message or the reason."""

    status: str
    detail: str
    changed: str = ""


@dataclass
class Caught:
    """What a case said, on both streams, and the warnings that a user would see."""

    out: str = ""
    err: str = ""
    warned: list[str] = field(default_factory=list)


def require(condition: object, what: str) -> None:
    """Raise :class:`WrongError` unless a condition holds."""
    if not condition:
        raise WrongError(what)


def run_case(make: Callable[[random.Random, Path], Trial], name: str, seed: int) -> Outcome:
    """Make a case from its seed in a folder of its own, run it, and judge how it ended."""
    draws = random.Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
        folder = Path(root) / draws.choice(FOLDERS)
        folder.mkdir()
        trial = make(draws, folder)
        with contextlib.chdir(folder):  # whatever a command writes into the working directory is gone with the case
            outcome = _judged(trial, folder)
        for path in folder.rglob("*"):
            if not path.is_symlink() and path.is_dir():
                path.chmod(0o755)  # so that it can be removed
        return outcome


def _judged(trial: Trial, folder: Path) -> Outcome:
    caught = Caught()
    try:
        with _guarded(), _caught(caught):
            before = _resident()
            if trial.command:
                main(list(trial.command))
                trial.verify()
            else:
                assert trial.read is not None
                trial.read()
        status, detail = "read", ""
    except InputError as error:
        status, detail = ("failed", f"InputError came out of main: {error}") if trial.command else ("refused", str(error))
    except SystemExit as end:
        status, detail = _refusal(end, trial, caught)
    except TooLong:
        status, detail = "failed", f"took more than {SECONDS:g} s"
    except WrongError as wrong:
        status, detail = "failed", f"wrong: {wrong}"
    except BaseException:
        status, detail = "failed", "".join(traceback.format_exc(limit=-6))
    if status == "refused" and not any(_flat(name) in _flat(detail) for name in trial.named or (str(folder),)):
        status, detail = "failed", f"the message does not name the file: {detail}"
    if (folder / CANARY).exists():
        status, detail = "failed", "code of the file was run"
    elif status != "failed" and caught.warned:
        status, detail = "failed", "; ".join(caught.warned)
    elif status != "failed" and "Traceback" in caught.err:
        status, detail = "failed", caught.err
    elif status != "failed" and _resident() - before > MOST_RESIDENT:
        status, detail = "failed", f"took {(_resident() - before) / 2**20:.0f} MiB of memory"
    return Outcome(status, detail, trial.changed)


def _refusal(end: SystemExit, trial: Trial, caught: Caught) -> tuple[str, str]:
    """Exit status 2 and, last of all on standard error, one line that begins with the command."""
    if not trial.command:
        return "failed", f"the library ended the process: {end.code}"
    begin = f"gz-lightning {trial.command[0]}"
    lines = [line for line in caught.err.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith(begin)]
    if end.code != 2 or len(said) != 1 or lines[-1] != said[0]:
        return "failed", f"exit status {end.code}, standard error: {caught.err[-1500:]}"
    return "refused", said[0]


def _flat(text: str) -> str:
    return " ".join(text.split())


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Limits of time and of memory."""

    def over(signum: int, frame: FrameType | None) -> None:
        raise TooLong

    old = signal.signal(signal.SIGALRM, over)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_ADDRESSES, limits[1]))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _resident() -> int:
    """Peak of the memory in use, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def _caught(caught: Caught) -> Iterator[None]:
    """Catch both streams, also what libraries in C write, and warnings."""
    with contextlib.ExitStack() as stack:
        below = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(below.fileno(), 2)
        out, err = io.StringIO(), io.StringIO()
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        found = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            below.seek(0)
            caught.out, caught.err = out.getvalue(), below.read() + err.getvalue()
            seen = [one for one in found if not issubclass(one.category, HIDDEN)]
            caught.warned = [f"{one.category.__name__}: {one.message} ({one.filename}:{one.lineno})" for one in seen]


def copy(source: Path, target: Path) -> Path:
    """Copy a file or a whole folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
    return target
