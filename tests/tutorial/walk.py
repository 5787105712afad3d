"""Walks a tutorial: runs the commands of a Markdown file and compares what they print with what the text says.

The convention, so that a page stays pleasant to read and can still be walked:

- Only blocks fenced as ```console are walked. A line ``$ command`` is a step; a command ends with a backslash where it
  goes on in the next line. The lines up to the next ``$`` are the expected output (standard output and error).
- ``...`` within an expected line stands for any text; alone on a line it stands for any number of lines, also none.
  All other text has to be there exactly, but for blanks at the end of a line.
- A command without expected output has to succeed. With expected output, the output alone counts.
- A step is run again until its output is as expected, for at most 20 seconds: a mesh takes a moment to learn.
  A block fenced as ```console once is run one time only, for commands that must not be repeated.
- Steps share a working directory (``cd`` lasts), but no variables.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PATIENCE_S = 60.0
PAUSE_S = 0.3
COMMAND_TIMEOUT_S = 60.0


class Step(NamedTuple):
    """One command: the line it stands on, what it should print, and whether to run it one time only."""

    line: int
    command: str
    expected: tuple[str, ...]
    once: bool


class Outcome(NamedTuple):
    """What came of a step, after ``runs`` runs; ``problem`` is empty where all is well."""

    step: Step
    output: str
    runs: int
    problem: str


def parse(text: str) -> list[Step]:
    """The steps of a tutorial, in order. Raises ValueError for a block that does not begin with a command."""
    steps: list[Step] = []
    block: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            block = line[3:].strip() if block is None else None
            is_first = True
        elif block in ("console", "console once"):
            if line.startswith("$ "):
                steps.append(Step(number, line[2:], (), block == "console once"))
            elif is_first:
                raise ValueError(f"line {number}: a console block begins with a command")
            elif steps[-1].command.endswith("\\") and not steps[-1].expected:
                steps[-1] = steps[-1]._replace(command=f"{steps[-1].command}\n{line}")
            else:
                steps[-1] = steps[-1]._replace(expected=(*steps[-1].expected, line))
            is_first = False
    return steps


def matches(expected: Iterable[str], output: str) -> bool:
    """Whether ``output`` is what the ``expected`` lines say."""
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += "[^\n]*".join(re.escape(piece) for piece in line.rstrip().split("...")) + r"[^\S\n]*\n"
    text = output.rstrip("\n") + "\n" if output else ""
    return re.fullmatch(pattern + r"\n*", text) is not None


def walk(steps: Iterable[Step], folder: Path, environment: Mapping[str, str]) -> Iterator[Outcome]:
    """Run the steps, beginning in ``folder``; ends with the first that fails."""
    for step in steps:
        outcome, folder = _take(step, folder, environment)
        yield outcome
        if outcome.problem:
            return


def _take(step: Step, folder: Path, environment: Mapping[str, str]) -> tuple[Outcome, Path]:
    """Run one step until it is as expected or patience ends; and the folder it leaves."""
    deadline = time.monotonic() + PATIENCE_S
    runs = 0
    while True:
        status, output, left = _run(step.command, folder, environment)
        runs += 1
        if step.expected:
            problem = "" if matches(step.expected, output) else "printed something else"
        else:
            problem = f"ended with status {status}" if status else ""
        if not problem or step.once or time.monotonic() > deadline:
            return Outcome(step, output, runs, problem), left
        time.sleep(PAUSE_S)


def _run(command: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str, Path]:
    """Run a command in bash: status, output, and the folder it ends in.

    Output goes to a file and not to a pipe: what stays in the background would keep a pipe open.
    """
    with tempfile.TemporaryDirectory() as scratch:
        printed, left = Path(scratch, "output"), Path(scratch, "folder")
        script = f"{command}\nstatus=$?\npwd > '{left}'\nexit $status\n"
        with printed.open("wb") as output:
            try:
                status = subprocess.run(
                    ["bash", "-c", script],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=COMMAND_TIMEOUT_S,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                status = -1
        ended = Path(left.read_text().rstrip("\n")) if left.exists() else folder
        return status, printed.read_text(errors="replace"), ended


def report(outcome: Outcome) -> str:
    """An outcome for a person: the command, what was expected, what came."""
    step = outcome.step
    return "\n".join(
        [
            f"line {step.line}: $ {step.command}",
            f"{outcome.problem or 'as expected'} ({outcome.runs} runs)",
            "--- expected",
            *step.expected,
            "--- printed",
            outcome.output.rstrip("\n"),
        ]
    )
