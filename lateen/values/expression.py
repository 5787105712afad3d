"""Whether a text is an expression of CEL, the Common Expression Language, as far as its grammar goes.

Comes in: an expression such as ``response.code >= 400 && !connection.mtls``. Goes out: nothing, or what is wrong with
it. Names and types are not looked at: what an attribute means is the proxy's to know.
"""

from __future__ import annotations

import re

MAX_DEPTH = 64
_STRING = r"""(?:[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))"""
_TOKEN = re.compile(
    rf"""(?:\s+|//[^\n]*)*
    (?: (?P<value>{_STRING}|0x[0-9a-fA-F]+u?|(?:[0-9]+\.[0-9]+|\.[0-9]+|[0-9]+)(?:[eE][-+]?[0-9]+)?[uU]?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign>\|\||&&|<=|>=|==|!=|[-+*/%<>!?:.,()\[\]{{}}])
      | (?P<end>\Z) )""",
    re.VERBOSE | re.DOTALL,
)
_BINARY = frozenset({"||", "&&", "<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "%", "in"})
_RESERVED = frozenset({"as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"})
_RESERVED |= {"in", "namespace", "package", "return", "var", "void", "while"}


def find_syntax_error(text: str) -> str:
    """What is wrong with the form of an expression; empty where nothing is."""
    try:
        parser = _Parser(tokens_of(text))
        parser.expression(0)
        parser.expect("end", "the end")
    except _SyntaxError as problem:
        return str(problem)
    return ""


class _SyntaxError(Exception):
    pass


def tokens_of(text: str) -> list[tuple[str, str]]:
    """Kind and text of each token of an expression, the last one of kind ``end``."""
    tokens: list[tuple[str, str]] = []
    position = 0
    while True:
        found = _TOKEN.match(text, position)
        if found is None:
            raise _SyntaxError(f"{text[position : position + 20].strip()!r} cannot stand here")
        kind = found.lastgroup or "end"
        tokens.append((kind, found[kind]))
        if kind == "end":
            return tokens
        position = found.end()


class _Parser:
    """Walks the tokens once. Which operator binds closer does not matter for the form."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def _next(self, *texts: str) -> bool:
        """Step over the next token if it is one of these signs or words."""
        kind, text = self._tokens[self._at]
        if kind in ("sign", "name") and text in texts:
            self._at += 1
            return True
        return False

    def expect(self, kind: str, wanted: str) -> str:
        found, text = self._tokens[self._at]
        if found != kind:
            raise _SyntaxError(f"{repr(text) if text else 'the end'} stands where {wanted} is expected")
        self._at += found != "end"
        return text

    def _close(self, sign: str) -> None:
        if not self._next(sign):
            self.expect("", repr(sign))

    def expression(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise _SyntaxError(f"it is nested more than {MAX_DEPTH} levels deep")
        self._operand(depth)
        while self._next(*_BINARY):
            self._operand(depth)
        if self._next("?"):
            self.expression(depth + 1)
            self._close(":")
            self.expression(depth + 1)

    def _operand(self, depth: int) -> None:
        while self._next("!", "-"):
            continue
        self._primary(depth)
        while True:
            if self._next("."):
                self.expect("name", "a name")
                self._arguments(depth)
            elif self._next("["):
                self.expression(depth + 1)
                self._close("]")
            elif self._next("{"):
                self._listed(depth, "}", pairs=True)
            else:
                return

    def _primary(self, depth: int) -> None:
        if self._tokens[self._at][0] == "value":
            self._at += 1
        elif self._next("("):
            self.expression(depth + 1)
            self._close(")")
        elif self._next("["):
            self._listed(depth, "]")
        elif self._next("{"):
            self._listed(depth, "}", pairs=True)
        else:
            self._next(".")
            name = self.expect("name", "a value")
            if name in _RESERVED:
                raise _SyntaxError(f"{name!r} is a reserved word")
            self._arguments(depth)

    def _arguments(self, depth: int) -> None:
        if self._next("("):
            self._listed(depth, ")")

    def _listed(self, depth: int, end: str, *, pairs: bool = False) -> None:
        while not self._next(end):
            self.expression(depth + 1)
            if pairs:
                self._close(":")
                self.expression(depth + 1)
            if not self._next(","):
                self._close(end)
                return
