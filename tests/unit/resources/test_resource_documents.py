"""YAML to documents: lines, separators, what is text, and what cannot be read."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies as st

from lateen.findings import Finding
from lateen.resources.documents import MAX_BYTES, MAX_DOCUMENTS, Document, parse_documents
from lateen.resources.yaml_reader import MAX_DEPTH


def _read(text: str | bytes) -> tuple[tuple[Document, ...], tuple[Finding, ...]]:
    return parse_documents(text.encode() if isinstance(text, str) else text, "file.yaml")


def _codes(text: str | bytes) -> list[tuple[str, int]]:
    return [(finding.code, finding.origin.line) for finding in _read(text)[1]]


def test_every_field_knows_its_line() -> None:
    documents, findings = _read("# remark\nkind: A\nspec:\n  http:\n  - timeout: 1s\n    name: x\n---\nkind: B\n")
    assert not findings
    first, second = documents
    assert (first.line, second.line) == (2, 8)
    assert first.lines["spec.http"] == 4
    assert first.lines["spec.http[0].name"] == 6
    assert second.lines["kind"] == 8


def test_a_broken_document_costs_only_itself() -> None:
    documents, findings = _read("kind: A\n---\nspec: [\n---\nkind: B\n---\na: 1\n\tb: 2\n")
    assert [document.value["kind"] for document in documents] == ["A", "B"]
    assert [finding.code for finding in findings] == ["invalid-yaml", "invalid-yaml"]
    assert findings[1].origin.line == 8


def test_scalars_are_read_as_kubernetes_users_mean_them() -> None:
    text = "{on: yes, a: off, b: 1:30, c: 0123, d: 2001-01-01, e: true, f: 12, g: 1.5, h: ~, i: 0x1f, j: 1e3}"
    (document,), _ = _read(text)
    assert document.value == {
        "on": "yes",
        "a": "off",
        "b": "1:30",
        "c": "0123",
        "d": "2001-01-01",
        "e": True,
        "f": 12,
        "g": 1.5,
        "h": None,
        "i": "0x1f",
        "j": 1000.0,
    }


def test_separators_and_directives() -> None:
    documents, findings = _read("%YAML 1.2\n# remark\n---\na: 1\n...\n---\n# nothing\n---\r\nb: |\n  ---\n  text\n")
    assert [document.value for document in documents] == [{"a": 1}, {"b": "---\ntext\n"}]
    assert not findings


def test_lists_are_taken_apart_with_their_lines() -> None:
    documents, _ = _read("kind: List\nitems:\n- kind: A\n  spec:\n    x: 1\n- kind: B\n")
    assert [document.value["kind"] for document in documents] == ["A", "B"]
    assert documents[0].lines["spec.x"] == 5
    assert documents[1].line == 6


def test_merge_keys_fill_in_what_is_not_said() -> None:
    (document,), _ = _read("base: &base {a: 1, b: 2}\nuser:\n  <<: *base\n  b: 3\n")
    assert document.value["user"] == {"a": 1, "b": 3}
    assert document.lines["user.b"] == 4
    assert _codes("a:\n  <<: 3\n") == [("invalid-key", 2)]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "duplicate-key", 3),
        ("a: !!python/object:os.system x\n", "unknown-tag", 1),
        ("a:\n  ? [1]\n  : 2\n", "invalid-key", 2),
        ("a: 1\nb: \x01\n", "invalid-yaml", 2),
        ("a: 1\nb: [\n", "invalid-yaml", 2),
        ("a: 1\nb: !!int x\n", "invalid-yaml", 2),
        ("a: 1\nb: !!bool x\n", "invalid-yaml", 2),
        ("a: &x [*x]\n", "too-deep", 1),
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(text: str, code: str, line: int) -> None:
    assert _codes(text) == [(code, line)]


def test_text_that_is_not_utf8() -> None:
    assert _codes(b"a: 1\nb: \xff\n") == [("invalid-yaml", 2)]


def test_aliases_cannot_blow_up() -> None:
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for number in range(1, 9):
        text += f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n"
    assert [code for code, _ in _codes(text)] == ["too-large"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused_before_it_costs_the_stack(opening: str) -> None:
    assert [code for code, _ in _codes(opening * 200_000)] == ["too-deep"]
    assert [code for code, _ in _codes("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2))] == ["too-deep"]


def test_many_items_are_not_deep() -> None:
    (document,), findings = _read("items:\n" + "- {a: 1}\n" * 5000)
    assert len(document.value["items"]) == 5000
    assert not findings


def test_a_file_that_is_too_large() -> None:
    assert [code for code, _ in _codes(b"#" * (MAX_BYTES + 1))] == ["too-large"]


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(data: bytes) -> None:
    parse_documents(data, "file.yaml")


@given(st.text(alphabet="abc:-{}[]&*!?|>'\"#%@ \n\t~", max_size=120))
def test_any_text_gets_an_answer(text: str) -> None:
    parse_documents(text.encode(), "file.yaml")


@pytest.mark.parametrize("text", ["- {a: 1}\n" * 300_000, "".join(f"k{n}: 1\n" for n in range(300_000))])
def test_more_values_than_are_read_are_refused_before_anything_is_made_of_them(text: str) -> None:
    started = time.process_time()
    assert [code for code, _ in _codes(text)] == ["too-large"]
    assert time.process_time() - started < 5


def test_more_documents_than_are_read_are_refused_with_the_line_of_the_first_of_them() -> None:
    assert _codes("---\na: 1\n" * (MAX_DOCUMENTS + 1)) == [("too-large", 2 * MAX_DOCUMENTS + 1)]
    assert _codes("---\n[\n" * 3) == [("invalid-yaml", 2), ("invalid-yaml", 4), ("invalid-yaml", 6)]
