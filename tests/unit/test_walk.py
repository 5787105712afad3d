"""The walker of tutorials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tutorial.walk import matches, parse, walk

PAGE = """# A page

```sh
$ not walked
```

```console
$ mkdir -p a/b && cd a/b
$ pwd; \\
  echo two
...a/b
two
```

```console once
$ echo x >> ../count; wc -l < ../count
2
```
"""


def test_steps_are_parsed() -> None:
    steps = parse(PAGE)
    assert [(step.line, step.command, step.expected, step.once) for step in steps] == [
        (8, "mkdir -p a/b && cd a/b", (), False),
        (9, "pwd; \\\n  echo two", ("...a/b", "two"), False),
        (16, "echo x >> ../count; wc -l < ../count", ("2",), True),
    ]


def test_a_block_without_a_command_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse("```console\noutput\n```")


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a", "b"], "a\nb\n\n", True),
        (["a"], "a", True),
        (["a"], "a\nb\n", False),
        (["..."], "", True),
        (["...", "b", "..."], "x\ny\nb\n", True),
        (["...", "b", "..."], "x\nab\n", False),
        (["took 2... s"], "took 2.013 s\n", True),
        (["took 2... s"], "took 1.2 s\n", False),
        (["a...c"], "a\nc\n", False),
        (["a.c"], "abc\n", False),
        ([], "", True),
    ],
)
def test_expected_lines(expected: list[str], output: str, same: bool) -> None:
    assert matches(expected, output) is same


def test_a_walk_stops_at_the_first_surprise(tmp_path: Path) -> None:
    outcomes = list(walk(parse(PAGE), tmp_path, dict(os.environ)))
    assert [outcome.problem for outcome in outcomes] == ["", "", "printed something else"]
    assert [outcome.runs for outcome in outcomes] == [1, 1, 1]


def test_a_step_is_tried_again(tmp_path: Path) -> None:
    (outcome,) = walk(parse("```console\n$ echo x >> count; wc -l < count\n3\n```"), tmp_path, dict(os.environ))
    assert (outcome.problem, outcome.runs) == ("", 3)
