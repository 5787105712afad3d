"""From text to a tree. The syntax is Go's, as far as Mixer took it.

Literals: "text" with Go's escapes, `raw text`, integers (also 0x), floating-point numbers, true, false. Attributes are
names with dots; ``$out.name`` is what an attribute generator has found. ``m["key"]`` is one entry of a map, ``f(a, b)``
a function, ``a.f(b)`` a method.

As in Mixer, an entry that a map lacks is an empty text, and at the left of ``|`` it is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from lateen.expressions.reading import Reader, look_over, scan
from lateen.expressions.syntax import (
    EITHER,
    ENTRIES,
    FILLED,
    HIGHEST,
    INDEX,
    NOT,
    PRECEDENCE,
    Attribute,
    Call,
    Expression,
    ExpressionError,
    Literal,
    is_too_high,
)
from lateen.expressions.vocabulary import ValueType

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
    |(?P<number>(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)(?![\w]))
    |(?P<name>\$out\b|[A-Za-z_]\w*)
    |(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<raw>`[^`]*`)
    |(?P<operator>\|\||&&|==|!=|<=|>=|[<>|+!()\[\],.-])
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPES: Mapping[str, str] = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"',
}  # fmt: skip
_ESCAPE = re.compile(r"\\(?:([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.ASCII)
_HINTS: Mapping[str, str] = {
    "=": "write ==",
    "&": "write &&",
    "'": 'write texts in double quotes: "..."',
    "*": "there is no multiplication",
    "/": "there is no division",
    "%": "there is no remainder",
    ";": "write one expression",
    "?": "write conditional(test, then, else)",
}


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """The tree of an expression. Raises ExpressionError at the first thing that is wrong."""
    look_over(text)
    found = _Parser(text, scan(text, _TOKEN, _unreadable)).whole()
    if is_too_high(found):
        raise ExpressionError(f"it joins more than {HIGHEST} parts", text, 0, "write several rules")
    return _filled(found, spared=False)


def _filled(tree: Expression, *, spared: bool) -> Expression:
    """The tree in which entries are filled that a map may lack. ``spared``: it stands at the left of ``|``."""
    if not isinstance(tree, Call):
        return tree
    if tree.function == EITHER:
        left, right = tree.arguments
        return Call(EITHER, (_filled(left, spared=True), _filled(right, spared=spared)), tree.at)
    is_entry = tree.function == INDEX
    arguments = tuple(_filled(part, spared=spared and is_entry) for part in tree.arguments)
    return Call(FILLED if is_entry and not spared else tree.function, arguments, tree.at, tree.method)


def is_attribute(name: str) -> bool:
    """Whether an attribute may have this name."""
    try:
        return parse(name) == Attribute(name) and not name.startswith("$")
    except ExpressionError:
        return False


class _Parser(Reader):
    def whole(self) -> Expression:
        return self._ended(self._binary(1))

    def _binary(self, level: int) -> Expression:
        self._deeper()
        left = self._unary()
        while True:
            kind, written, at = self._peek()
            precedence = PRECEDENCE.get(written, 0) if kind == "operator" else 0
            if precedence < level:
                self._depth -= 1
                return left
            self._take()
            left = Call(written, (left, self._binary(precedence + 1)), at)

    def _unary(self) -> Expression:
        kind, written, at = self._peek()
        if kind == "operator" and written == NOT:
            self._take()
            self._deeper()
            found: Expression = Call(NOT, (self._unary(),), at)
            self._depth -= 1
            return found
        if kind == "operator" and written == "-":
            self._take()
            kind, written, place = self._take()
            if kind != "number":
                raise self._wrong("- stands before numbers alone", at, "there is no subtraction")
            return self._number(f"-{written}", place)
        return self._postfix()

    def _postfix(self) -> Expression:
        found = self._primary()
        while True:
            kind, written, at = self._peek()
            if kind != "operator":
                return found
            if written == "[":
                self._take()
                key = self._binary(1)
                self._expect("]", "close the key of the map")
                found = Call(INDEX, (found, key), at)
            elif written == ".":
                self._take()
                found = self._member(found)
            else:
                return found

    def _member(self, owner: Expression) -> Expression:
        kind, name, place = self._take()
        if kind != "name":
            raise self._wrong("a name is expected after the dot", place, "write an attribute or a method")
        if self._peek()[1] == "(":
            return Call(name, (owner, *self._arguments()), place, method=True)
        if isinstance(owner, Attribute):
            return Attribute(f"{owner.name}.{name}", owner.at)
        raise self._wrong(f"{name} is neither part of an attribute's name nor a method", place, f"write .{name}(...)")

    def _primary(self) -> Expression:
        kind, written, at = self._take()
        if kind == "number":
            return self._number(written, at)
        if kind == "text":
            return Literal(self._unescaped(written[1:-1], at, _ESCAPE, _ESCAPES), ValueType.STRING, at)
        if kind == "raw":
            return Literal(written[1:-1].replace("\r", ""), ValueType.STRING, at)
        if kind == "name":
            return self._named(written, at)
        if written == "(":
            found = self._binary(1)
            self._expect(")", "close the parenthesis")
            return found
        if kind == "end":
            raise self._wrong("it ends where a value is expected", at, "complete it")
        raise self._wrong(f"{written} stands where a value is expected", at, "write an attribute or a literal")

    def _named(self, name: str, at: int) -> Expression:
        if self._peek()[1] == "(":
            return Call(name, self._arguments(), at)
        if name in ("true", "false"):
            return Literal(name == "true", ValueType.BOOL, at)
        return Attribute(name, at)

    def _arguments(self) -> tuple[Expression, ...]:
        self._expect("(", "open the arguments")
        found: list[Expression] = []
        while self._peek()[1] != ")" or self._peek()[0] != "operator":
            found.append(self._binary(1))
            kind, written, at = self._peek()
            if kind == "operator" and written == ",":
                self._take()
            elif kind != "operator" or written != ")":
                raise self._wrong("a comma or ) is expected", at, "separate arguments by commas")
        self._take()
        return tuple(found)

    def _number(self, written: str, at: int) -> Literal:
        digits = written.removeprefix("-")
        sign = -1 if written != digits else 1
        if digits.lower().startswith("0x"):
            return self._integer(sign * int(digits[:25], 16), at)
        if digits.isdigit():
            octal = len(digits) > 1 and digits.startswith("0")
            if octal and not set("89").isdisjoint(digits):
                raise self._wrong(f"{digits} is no number of base 8", at, "leave out the first 0")
            return self._integer(sign * int(digits[:25], 8 if octal else 10), at)
        return self._double(written, at)


def _unreadable(text: str, at: int) -> ExpressionError:
    written = text[at]
    if written in '"`':
        return ExpressionError("a text is not closed", text, at, f"end it by {written}")
    if written.isdigit():
        return ExpressionError("this is no number", text, at, "put names that begin with a digit in quotes")
    return ExpressionError(f"{written} means nothing here", text, at, _HINTS.get(written, "leave it out"))


def render(expression: Expression) -> str:
    """The expression as text, fully in parentheses; ``parse`` reads it to the same tree but for the places."""
    if isinstance(expression, Literal):
        return _literal(expression)
    if isinstance(expression, Attribute):
        return expression.name
    if not isinstance(expression, Call):
        return f"<{expression.value}>"
    arguments = [render(argument) for argument in expression.arguments]
    if expression.function in ENTRIES:
        return f"{arguments[0]}[{arguments[1]}]"
    if expression.function == NOT:
        return f"!{arguments[0]}"
    if expression.function in PRECEDENCE:
        return f"({arguments[0]} {expression.function} {arguments[1]})"
    if expression.method:
        return f"{arguments[0]}.{expression.function}({', '.join(arguments[1:])})"
    return f"{expression.function}({', '.join(arguments)})"


def _literal(literal: Literal) -> str:
    if isinstance(literal.value, bool):
        return "true" if literal.value else "false"
    if isinstance(literal.value, str):
        return '"' + "".join(_escaped(character) for character in literal.value) + '"'
    return "<absent>" if literal.value is None else repr(literal.value)


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}"
