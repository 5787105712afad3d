"""Whether a text is an expression of CEL, the Common Expression Language, that Envoy takes.

Comes in: an expression such as ``response.code >= 400 && !connection.mtls``. Goes out: nothing, or what is wrong with
it. Of CEL's functions Envoy has the standard ones without ``string``, and nothing that works through lists or makes
messages; it refuses patterns that are too large and trees that are too high. Types, and what an attribute means, are
not looked at: they show with each request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import re2

from lateen.values.cel_literal import LITERAL, is_number, number_problem, text_of, text_problem

MAX_DEPTH = 32
LARGEST_PATTERN = 100
"""The program of a pattern, as Envoy bounds it unless it is told otherwise."""
_TOKEN = re.compile(
    rf"""(?:[ \t\r\n\f]+|//[^\n]*)*
    (?: (?P<value>{LITERAL})
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<quoted>`[-A-Za-z0-9_./\ ]+`)
      | (?P<sign>\|\||&&|<=|>=|==|!=|[-+*/%<>!?:.,()\[\]{{}}])
      | (?P<end>\Z) )""",
    re.VERBOSE | re.DOTALL,
)
CONSTANTS = frozenset({"true", "false", "null"})
_NEVER_A_FIELD = CONSTANTS | {"in"}
_RESERVED = frozenset({"as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"})
_RESERVED |= {"in", "namespace", "package", "return", "var", "void", "while"}
_OF_TEXTS = ("matches", "contains", "startsWith", "endsWith")
_CONVERSIONS = ("duration", "timestamp", "int", "uint", "double", "type", "dyn", "bool", "bytes")
_OF_DATES = ("getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek")
_OF_TIMES = (*_OF_DATES, "getHours", "getMinutes", "getSeconds", "getMilliseconds")
FUNCTIONS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(_OF_TEXTS, (2,)),
    **dict.fromkeys(_CONVERSIONS, (1,)),
    "size": (1,),
}
"""How many values each function takes."""
METHODS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(_OF_TEXTS, (1,)),
    **dict.fromkeys(_OF_TIMES, (0, 1)),
    "size": (0,),
}
"""How many more values each function takes where it stands after the dot of the first."""
_THROUGH_LISTS = frozenset({"all", "exists", "exists_one", "map", "filter"})


def find_syntax_error(text: str) -> str:
    """What is wrong with an expression; empty where nothing is."""
    try:
        parser = _Parser(tokens_of(text))
        node = parser.expression(0)
        parser.expect("end", "the end")
    except _SyntaxError as problem:
        return str(problem)
    return _TOO_DEEP if node.height > MAX_DEPTH else ""


def without_string(text: str) -> str:
    """The expression within ``string(...)``, where that is the whole: Envoy writes each value as a text by itself."""
    inner = text.strip().removeprefix("string").strip()
    if inner == text.strip() or not (inner.startswith("(") and inner.endswith(")")):
        return text
    inner = inner[1:-1].strip()
    return inner if not find_syntax_error(inner) else text


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"


class _SyntaxError(Exception):
    pass


class _Node(NamedTuple):
    """A part: how high its tree is, whether it is a field of something, and the text that it is, where it is one."""

    height: int = 1
    is_field: bool = False
    text: str | None = None


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
    """Walks the tokens once."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def _next(self, *texts: str) -> str:
        """Step over the next token if it is one of these signs or words, and say which."""
        kind, text = self._tokens[self._at]
        if kind in ("sign", "name") and text in texts:
            self._at += 1
            return text
        return ""

    def expect(self, kind: str, wanted: str) -> str:
        found, text = self._tokens[self._at]
        if found != kind:
            raise _SyntaxError(f"{repr(text) if text else 'the end'} stands where {wanted} is expected")
        self._at += found != "end"
        return text

    def _close(self, sign: str) -> None:
        if not self._next(sign):
            self.expect("", repr(sign))

    def expression(self, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise _SyntaxError(_TOO_DEEP)
        node = self._either(depth)
        if self._next("?"):
            yes = self._either(depth)
            self._close(":")
            node = _above(node, yes, self.expression(depth + 1))
        return node

    def _either(self, depth: int) -> _Node:
        return self._joined("||", lambda: self._joined("&&", lambda: self._relation(depth)))

    def _joined(self, sign: str, part: Callable[[], _Node]) -> _Node:
        """Parts with ``||`` or ``&&`` between, of which a balanced tree is made."""
        nodes = [part()]
        while self._next(sign):
            nodes.append(part())
        if len(nodes) == 1:
            return nodes[0]
        return _Node(max(node.height for node in nodes) + (len(nodes) - 1).bit_length())

    def _relation(self, depth: int) -> _Node:
        return self._in_order(
            ("<=", ">=", "==", "!=", "<", ">", "in"),
            lambda: self._in_order(("+", "-"), lambda: self._in_order(("*", "/", "%"), lambda: self._unary(depth))),
        )

    def _in_order(self, signs: tuple[str, ...], part: Callable[[], _Node]) -> _Node:
        node = part()
        while self._next(*signs):
            node = _above(node, part())
        return node

    def _unary(self, depth: int) -> _Node:
        for sign in ("!", "-"):
            count = 0
            while self._next(sign):
                count += 1
            if count:
                is_literal = sign == "-" and count == 1 and self._at_number()
                node = self._member(depth, negative=is_literal)
                return _above(node) if count % 2 and not is_literal else node
        return self._member(depth)

    def _at_number(self) -> bool:
        kind, text = self._tokens[self._at]
        return kind == "value" and is_number(text)

    def _member(self, depth: int, *, negative: bool = False) -> _Node:
        node = self._primary(depth, negative=negative)
        while True:
            if self._next("."):
                node = self._after_dot(node, depth)
            elif self._next("["):
                node = _above(node, self.expression(depth + 1))
                self._close("]")
            elif self._next("{"):
                raise _SyntaxError("messages cannot be made here")
            else:
                return node

    def _after_dot(self, node: _Node, depth: int) -> _Node:
        if self._tokens[self._at][0] == "quoted":
            self._at += 1
            return _Node(node.height + 1, is_field=True)
        name = self.expect("name", "a name")
        if name in _NEVER_A_FIELD:
            raise _SyntaxError(f"{name!r} stands where a name is expected")
        if not self._next("("):
            return _Node(node.height + 1, is_field=True)
        arguments = self._listed(depth, ")")
        _check_call(name, METHODS, len(arguments))
        if name == "matches":
            _check_pattern(arguments[0])
        return _above(node, *arguments)

    def _primary(self, depth: int, *, negative: bool) -> _Node:
        if self._tokens[self._at][0] == "value":
            return self._literal(negative=negative)
        if self._next("("):
            node = self.expression(depth + 1)
            self._close(")")
            return node
        if self._next("["):
            return _above(*self._listed(depth, "]", trailing=True))
        if self._next("{"):
            return _above(*self._listed(depth, "}", pairs=True, trailing=True))
        absolute = self._next(".")
        name = self.expect("name", "a value")
        if name in _RESERVED or (absolute and name in CONSTANTS):
            raise _SyntaxError(f"{name!r} is a reserved word")
        if name in CONSTANTS or not self._next("("):
            return _Node()
        arguments = self._listed(depth, ")")
        if name == "has" and not absolute and len(arguments) == 1:
            if not arguments[0].is_field:
                raise _SyntaxError("has() asks for a field, such as has(request.headers)")
            return _above(arguments[0])
        _check_call(name, FUNCTIONS, len(arguments))
        if name == "matches":
            _check_pattern(arguments[1])
        return _above(*arguments)

    def _literal(self, *, negative: bool) -> _Node:
        literal = self.expect("value", "a value")
        problem = number_problem(literal, negative=negative) if is_number(literal) else text_problem(literal)
        if problem:
            raise _SyntaxError(problem)
        return _Node(text=None if is_number(literal) else text_of(literal))

    def _listed(self, depth: int, end: str, *, pairs: bool = False, trailing: bool = False) -> list[_Node]:
        """Parts with commas between; ``trailing``: one may stand after the last."""
        nodes: list[_Node] = []
        while not (self._next(end) if trailing or not nodes else ""):
            nodes.append(self.expression(depth + 1))
            if pairs:
                self._close(":")
                nodes.append(self.expression(depth + 1))
            if not self._next(","):
                self._close(end)
                break
        return nodes


def _above(*parts: _Node) -> _Node:
    """What stands above these parts."""
    return _Node(max((part.height for part in parts), default=0) + 1)


def _check_call(name: str, known: dict[str, tuple[int, ...]], count: int) -> None:
    if name in _THROUGH_LISTS:
        raise _SyntaxError(f"Envoy does not work through lists, as {name} does")
    if name not in FUNCTIONS and name not in METHODS:
        raise _SyntaxError(f"Envoy has no function {name}")
    if count not in known.get(name, ()):
        usual = f"VALUE.{name}({', '.join(['VALUE'] * METHODS[name][0])})" if name in METHODS else f"{name}(VALUE)"
        raise _SyntaxError(f"{name} is called as {usual}")


def _check_pattern(argument: _Node) -> None:
    if argument.text is None:
        return
    options = re2.Options()
    options.log_errors = False
    try:
        size = re2.compile(argument.text, options).programsize
    except re2.error as problem:
        text = problem.args[0].decode() if isinstance(problem.args[0], bytes) else str(problem)
        raise _SyntaxError(f"the pattern does not compile: {text}") from None
    if size > LARGEST_PATTERN:
        raise _SyntaxError("the pattern is too large for Envoy")
