"""CEL as another way to write expressions: from its text to the same tree.

What the trees of Mixer's own language can say is taken over with CEL's meaning; what they cannot (lists but for ``in``,
macros, null, bytes, arithmetic but for ``+``) is refused at its place. CEL's ``&&`` and ``||`` do not mind an absent
side where the other one decides; the trees of ``cel_logic`` say just that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import re2

from lateen.expressions.cel_logic import joined
from lateen.expressions.functions import FUNCTIONS, Unusable, to_duration, to_ip, to_timestamp
from lateen.expressions.reading import Reader, Token, look_over, scan
from lateen.expressions.syntax import (
    ADD,
    AND,
    EITHER,
    EQ,
    INDEX,
    NEQ,
    NOT,
    OR,
    Attribute,
    Call,
    Expression,
    ExpressionError,
    Known,
    Literal,
    UnknownAttributeError,
    is_too_high,
    size_of,
)
from lateen.expressions.vocabulary import ValueType, Vocabulary

LARGEST = 20_000
"""How many nodes the tree of an expression may have."""
_TOKEN = re.compile(
    r"""
    (?P<space>(?:[ \t\r\n\f]|//[^\n]*)+)
    |(?P<number>(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)(?!\w))
    |(?P<text>[rR]?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))(?!["'])
    |(?P<name>\$out\b|[A-Za-z_]\w*)
    |(?P<operator>\|\||&&|==|!=|<=|>=|[<>+!()\[\],.?:-])
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPES: Mapping[str, str] = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "`": "`", "?": "?",
}  # fmt: skip
_ESCAPE = re.compile(r"\\(?:([0-7]{3})|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.ASCII)
_RELATIONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_HINTS: Mapping[str, str] = {
    "=": "write ==",
    "&": "write &&",
    "|": "write ||, or has(m.key) ? m.key : other",
    "*": "there is no multiplication",
    "/": "there is no division",
    "%": "there is no remainder",
    "{": "there are no maps and messages",
}
_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_TRUTH = ValueType.BOOL
_PAIRS: Mapping[ValueType, tuple[Literal | Known, Literal | Known]] = {
    **{
        kind: (Literal(one, kind), Literal(other, kind))
        for kind, one, other in (
            (ValueType.STRING, "a", "b"),
            (ValueType.EMAIL_ADDRESS, "a", "b"),
            (ValueType.URI, "a", "b"),
            (ValueType.DNS_NAME, "a", "b"),
            (ValueType.INT64, 1, 2),
            (ValueType.DOUBLE, 1.0, 2.0),
            (ValueType.BOOL, True, False),
        )
    },
    **{
        kind: (Known(one, kind), Known(other, kind))
        for kind, one, other in (
            (ValueType.IP_ADDRESS, to_ip("127.0.0.1"), to_ip("::1")),
            (ValueType.DURATION, to_duration("1s"), to_duration("2s")),
            (ValueType.TIMESTAMP, to_timestamp("2000-01-01T00:00:00Z"), to_timestamp("2001-01-01T00:00:00Z")),
        )
    },
}
"""For each type two values that are not the same."""


@lru_cache(maxsize=4096)
def _tokens(text: str) -> tuple[Token, ...]:
    return scan(text, _TOKEN, _unreadable)


def _unreadable(text: str, at: int) -> ExpressionError:
    written = text[at]
    if written in "\"'":
        return ExpressionError("a text is not closed on its line", text, at, f"end it by {written}")
    if written.isdigit():
        return ExpressionError("this is no number that is read here", text, at, "write an int or a double")
    return ExpressionError(f"{written} means nothing here", text, at, _HINTS.get(written, "leave it out"))


def parse_cel(text: str, vocabulary: Vocabulary, *, match: bool = False) -> Expression:
    """The tree of an expression in CEL. ``match``: where it cannot be evaluated, it means false.

    Raises ExpressionError at the first thing that is wrong.
    """
    look_over(text)
    written = _Parser(text, vocabulary).whole()
    usable = not is_too_high(written) and size_of(written) <= LARGEST
    found = joined(written, lenient=match, largest=LARGEST) if usable else None
    if found is None or is_too_high(found):
        raise ExpressionError("it joins too many parts", text, 0, "write several rules")
    return found


class _Parser(Reader):
    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        super().__init__(text, _tokens(text))
        self._vocabulary = vocabulary

    def whole(self) -> Expression:
        return self._ended(self._choice())

    def _choice(self) -> Expression:
        self._deeper()
        found = self._logic(OR)
        at = self._peek()[2]
        if self._is("?"):
            yes = self._logic(OR)
            self._expect(":", "write test ? then : else")
            found = Call("conditional", (found, yes, self._choice()), at)
        self._depth -= 1
        return found

    def _logic(self, operator: str) -> Expression:
        found = self._logic(AND) if operator == OR else self._relation()
        while True:
            at = self._peek()[2]
            if not self._is(operator):
                return found
            found = Call(operator, (found, self._logic(AND) if operator == OR else self._relation()), at)

    def _relation(self) -> Expression:
        found = self._sum()
        while True:
            kind, written, at = self._peek()
            if kind == "operator" and written in _RELATIONS:
                self._take()
                found = Call(written, (found, self._sum()), at)
            elif kind == "name" and written == "in":
                self._take()
                found = self._within(found, at)
            else:
                return found

    def _sum(self) -> Expression:
        found = self._unary()
        while True:
            at = self._peek()[2]
            if self._is("-"):
                raise self._wrong("there is no subtraction", at, "compare with the sum instead")
            if not self._is("+"):
                return found
            found = Call(ADD, (found, self._unary()), at)

    def _within(self, wanted: Expression, at: int) -> Expression:
        """``x in [a, b]`` is one of them; ``"key" in map`` asks whether there is such an entry."""
        if not self._is("["):
            return self._presence(Call(INDEX, (self._sum(), wanted), at), at)
        entries: list[Expression] = []
        while not self._is("]"):
            entries.append(self._choice())
            if not self._is(","):
                self._expect("]", "close the list")
                break
        return _one_of(wanted, entries, at)

    def _unary(self) -> Expression:
        at = self._peek()[2]
        if self._is(NOT):
            self._deeper()
            found: Expression = Call(NOT, (self._unary(),), at)
            self._depth -= 1
            return found
        if self._is("-"):
            kind, written, place = self._take()
            if kind != "number":
                raise self._wrong("- stands before numbers alone", at, "there is no subtraction")
            return self._number(f"-{written}", place)
        return self._postfix()

    def _postfix(self) -> Expression:
        found = self._primary()
        while True:
            at = self._peek()[2]
            if self._is("["):
                key = self._choice()
                self._expect("]", "close the key of the map")
                found = Call(INDEX, (found, key), at)
            elif self._is("."):
                name, place = self._name("a name is expected after the dot")
                if self._peek()[1] == "(":
                    found = self._method(found, name, place)
                else:
                    found = Call(INDEX, (found, Literal(name, ValueType.STRING, place)), at)
            else:
                return found

    def _primary(self) -> Expression:
        kind, written, at = self._take()
        if kind == "number":
            return self._number(written, at)
        if kind == "text":
            return Literal(self._unquoted(written, at), ValueType.STRING, at)
        if kind == "name":
            return self._named(written, at)
        if kind == "operator" and written == "(":
            found = self._choice()
            self._expect(")", "close the parenthesis")
            return found
        if kind == "operator" and written == "[":
            raise self._wrong("lists stand after in alone", at, "write x in [a, b]")
        if kind == "end":
            raise self._wrong("it ends where a value is expected", at, "complete it")
        raise self._wrong(f"{written} stands where a value is expected", at, "write an attribute or a literal")

    def _named(self, name: str, at: int) -> Expression:
        if name in ("true", "false"):
            return Literal(name == "true", _TRUTH, at)
        if name == "null":
            raise self._wrong("there is no null", at, "ask by has(...) whether an attribute is there")
        if self._peek()[1] == "(":
            return self._function(name, at)
        names = [name]
        while self._peek()[1] == "." and self._tokens[self._next + 1][0] == "name" and not self._is_call(2):
            self._take()
            names.append(self._take()[1])
        return self._attribute(names, at)

    def _attribute(self, names: list[str], at: int) -> Expression:
        """An attribute, or one entry of a map: ``destination.labels.app``."""
        whole = ".".join(names)
        owner = whole.rpartition(".")[0]
        if self._vocabulary.type_of(whole) is None and self._vocabulary.type_of(owner) is ValueType.STRING_MAP:
            return Call(INDEX, (Attribute(owner, at), Literal(names[-1], ValueType.STRING, at)), at)
        if self._vocabulary.type_of(whole) is None:
            message = f"there is no attribute {whole}"
            raise UnknownAttributeError(message, self._text, at, self._vocabulary.remedy_for(whole))
        return Attribute(whole, at)

    def _function(self, name: str, at: int) -> Expression:
        if name == "has":
            self._expect("(", "open the arguments")
            found = self._presence(self._postfix(), at)
            self._expect(")", "has takes one attribute or entry")
            return found
        if name == "duration":
            return self._duration(self._arguments(), at)
        if name not in FUNCTIONS or FUNCTIONS[name].method:
            usable = ", ".join(sorted(one for one, signature in FUNCTIONS.items() if not signature.method))
            raise self._wrong(f"there is no function {name}", at, f"there are has, duration, {usable}")
        return Call(name, self._arguments(), at)

    def _duration(self, arguments: tuple[Expression, ...], at: int) -> Expression:
        only = arguments[0] if len(arguments) == 1 else None
        if not isinstance(only, Literal) or not isinstance(only.value, str):
            raise self._wrong("duration takes a text that is written down", at, 'write duration("10ms")')
        try:
            return Known(to_duration(only.value), ValueType.DURATION, at)
        except Unusable as problem:
            raise self._wrong(str(problem), only.at, "correct it") from None

    def _method(self, owner: Expression, name: str, at: int) -> Expression:
        if name in _MACROS:
            raise self._wrong(f"there is no macro {name}", at, "ask for entries by their keys")
        arguments = self._arguments()
        if name == "size" and not arguments:
            return Call("size", (owner,), at)
        if name not in ("startsWith", "endsWith", "matches", "contains"):
            raise self._wrong(f"there is no method {name}", at, "there are startsWith, endsWith, contains, matches")
        if len(arguments) != 1:
            raise self._wrong(f"{name} takes one argument", at, f'write x.{name}("...")')
        if name == "contains":
            part = arguments[0]
            if not isinstance(part, Literal) or not isinstance(part.value, str):
                raise self._wrong("contains takes a text that is written down", at, 'write x.contains("...")')
            quoted = Literal(re2.escape(part.value), ValueType.STRING, part.at)
            return Call("matches", (quoted, owner), at, method=True)
        pair = (arguments[0], owner) if name == "matches" else (owner, arguments[0])
        return Call(name, pair, at, method=True)

    def _presence(self, asked: Expression, at: int) -> Expression:
        """Whether an attribute or entry is there: with two values in its place, it stays the same."""
        is_entry = isinstance(asked, Call) and asked.function == INDEX
        kind = ValueType.STRING if is_entry else None
        if isinstance(asked, Attribute):
            kind = self._vocabulary.type_of(asked.name)
        if kind is None or kind not in _PAIRS:
            raise self._wrong("has takes an attribute or an entry of a map", at, "write has(request.headers.cookie)")
        one, other = (Call(EITHER, (asked, value), at) for value in _PAIRS[kind])
        return Call(EQ, (one, other), at)

    def _arguments(self) -> tuple[Expression, ...]:
        self._expect("(", "open the arguments")
        found: list[Expression] = []
        while not self._is(")"):
            found.append(self._choice())
            if not self._is(","):
                self._expect(")", "separate arguments by commas")
                break
        return tuple(found)

    def _number(self, written: str, at: int) -> Literal:
        digits = written.removeprefix("-")
        if digits.isdigit() or digits[:2] in ("0x", "0X"):
            value = int(digits[:40], 10 if digits.isdigit() else 16)
            return self._integer(value if written == digits else -value, at)
        return self._double(written, at)

    def _unquoted(self, written: str, at: int) -> str:
        if written[0] in "rR":
            return written[2:-1]
        return self._unescaped(written[1:-1], at, _ESCAPE, _ESCAPES)

    def _is_call(self, ahead: int) -> bool:
        """Whether the token that many ahead opens arguments."""
        place = self._next + ahead
        return place < len(self._tokens) and self._tokens[place][1] == "("

    def _name(self, message: str) -> tuple[str, int]:
        kind, name, at = self._take()
        if kind != "name":
            raise self._wrong(message, at, "write an attribute or a method")
        return name, at


def _one_of(wanted: Expression, entries: list[Expression], at: int) -> Expression:
    """Whether a value is one of these. Where one of them is absent, so is the whole, whatever the others are."""
    written = all(isinstance(entry, Literal) for entry in entries)
    found: Expression = Call(NEQ, (wanted, wanted), at)
    for number, entry in enumerate(entries):
        same = Call(EQ, (wanted, entry), at)
        if number == 0:
            found = same
        elif written:
            found = Call(OR, (found, same), at)
        else:
            found = Call("conditional", (found, Call(EQ, (entry, entry), at), same), at)
    return found
