"""Correction functions: SymPy expressions kept as text, evaluated without SymPy.

SymPy's own parser hands the text to Python's ``eval``, so a document of the runs database would be a
program. Here a small grammar is parsed instead: what ``str`` and ``srepr`` of a SymPy expression print,
made of numbers, known symbols, arithmetic, conditions and a list of functions. Nothing else has a meaning.

Time and memory are bounded by construction: the text has a largest length, the expression a largest
nesting and cost, every part is evaluated at most once, the steps of all evaluations for one run are counted
(`Steps`), and numbers are decimals of fixed precision and limited exponent. Fifty digits keep what cancels in
a polynomial of a Unix time, as SymPy's ``evalf`` does.
"""

import decimal
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from caxflow.errors import CaxflowError

MAX_CHARACTERS = 4 << 20
MAX_NESTING = 40
MAX_COST = 200_000
# Of all evaluations for a run, each the time of an addition: about 2 s. What is genuine takes a tenth.
MAX_STEPS = 20_000_000

_STEPS = 10  # of a unit of what a function costs
_STEPS_OF_POWER, _STEPS_OF_SQUARE = 1500, 20  # of one with a fraction in its exponent, and of a simple one
_STEPS_OF_CHOICE = 5
_SIMPLE_EXPONENT = 64

_PRECISION = decimal.Context(
    prec=50,
    Emax=9999,
    Emin=-9999,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582")

_TOO_LONG = f"its evaluation takes more than {MAX_STEPS} steps"

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z]\w*)"
    r"|(?P<text>'[^'\\\n]*'|\"[^\"\\\n]*\")"
    r"|(?P<sign>\*\*|<=|>=|==|!=|[-+*/(),<>=&|~])"
    r"|(?P<end>\Z))",
    re.ASCII,
)


class TooManySteps(Exception):
    """An expression takes longer than any that is genuine."""


class Steps:
    """Counts what evaluations take together, for a run say.

    Parameters
    ----------
    left : int, optional
        How many steps there are; `MAX_STEPS` if not given.
    """

    def __init__(self, left: int | None = None):
        self.left = MAX_STEPS if left is None else left

    def spend(self, steps: int) -> None:
        """Count; raise if there are no more."""
        self.left -= steps
        if self.left < 0:
            raise TooManySteps


class _Values(dict[str, Decimal]):
    """Values of the symbols, and how many steps there are."""

    __slots__ = ("spend",)

    def __init__(self, values: dict[str, Decimal], steps: Steps):
        super().__init__(values)
        self.spend = steps.spend


class _Part(NamedTuple):
    """A parsed part: what it is (number, condition, text, pair), and how to get its value."""

    kind: str
    value: Callable[[_Values], object]
    content: object = None  # of a constant, a symbol or a text, where the grammar looks into it


@dataclass(frozen=True)
class Expression:
    """A parsed expression of named symbols; call it with their values.

    Parameters
    ----------
    symbols : frozenset of str
        Names that occur in the expression.
    """

    symbols: frozenset[str]
    _part: _Part
    _was_too_long: list = field(default_factory=list, repr=False, compare=False)

    def __call__(self, steps: Steps | None = None, /, **values: float) -> float:
        """Value of the expression.

        Parameters
        ----------
        steps : Steps, optional
            What all evaluations together may take; without it, this one may take as much.
        **values : float
            A value for each symbol; further ones are ignored.

        Returns
        -------
        float
            A finite number, exact to about 15 digits.

        Raises
        ------
        CaxflowError
            If the result, or a step on the way to it, is not a finite real number, or no branch of a
            Piecewise holds; if it takes too long, then and ever after.
        """
        if self._was_too_long:
            raise CaxflowError(_TOO_LONG, "simplify it")
        at = ", ".join(f"{name} = {values[name]:.15g}" for name in sorted(self.symbols))
        try:
            with decimal.localcontext(_PRECISION):
                exact = {name: Decimal(values[name]) for name in self.symbols}
                result = float(self._part.value(_Values(exact, steps or Steps())))
        except TooManySteps:
            self._was_too_long.append(True)
            raise CaxflowError(_TOO_LONG, "simplify it") from None
        except (decimal.DecimalException, ValueError, OverflowError):
            result = math.nan
        except LookupError as error:
            raise CaxflowError(f"{error.args[0]} (at {at})" if at else error.args[0]) from None
        if not math.isfinite(result):
            raise CaxflowError("the value is not a finite real number" + (f" (at {at})" if at else ""))
        return result


def parse(text: str, symbols: Collection[str]) -> Expression:
    """Read an expression in the form in which SymPy prints it (``str`` or ``srepr``).

    Parameters
    ----------
    text : str
        For example ``"Poly(1.2*v**2 + 0.5, v, domain='RR')"`` or ``"Piecewise((1e6, t < 5), (2e6, True))"``.
    symbols : collection of str
        Names that may occur.

    Raises
    ------
    CaxflowError
        If the text is anything else, too long or nested too deeply.
    """
    if not isinstance(text, str):
        raise CaxflowError(f"the expression is a {type(text).__name__}, not text")
    if len(text) > MAX_CHARACTERS:
        raise CaxflowError(f"the expression has {len(text)} characters; {MAX_CHARACTERS} are the most")
    parser = _Parser(text, frozenset(symbols))
    part = parser.comparison()
    if parser.kind != "end":
        raise parser.error(f"{parser.token!r} is out of place")
    if part.kind != "number":
        raise parser.error("the expression is not a number")
    return Expression(frozenset(parser.used), part)


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    return Decimal(1) if exponent == 0 else base**exponent


def _steps_of_power(exponent: Decimal) -> int:
    simple = abs(exponent) <= _SIMPLE_EXPONENT and exponent == exponent.to_integral_value()
    return _STEPS_OF_SQUARE if simple else _STEPS_OF_POWER


def _logarithm(value: Decimal, base: Decimal | None = None) -> Decimal:
    return value.ln() if base is None else value.ln() / base.ln()


def _binary64(function: Callable[..., float]) -> Callable[..., Decimal]:
    """Functions that `decimal` lacks are taken in double precision."""
    return lambda *arguments: Decimal(function(*map(float, arguments)))


def _sign(value: Decimal) -> Decimal:
    return Decimal((value > 0) - (value < 0))


# name: (fewest arguments, most arguments, cost in units of an addition, function)
_FUNCTIONS: dict[str, tuple[int, int, int, Callable[..., Decimal]]] = {
    "exp": (1, 1, 20, Decimal.exp),
    "log": (1, 2, 40, _logarithm),
    "ln": (1, 2, 40, _logarithm),
    "sqrt": (1, 1, 5, Decimal.sqrt),
    "Pow": (2, 2, 40, _power),
    "Abs": (1, 1, 1, abs),
    "sign": (1, 1, 1, _sign),
    "Heaviside": (1, 1, 1, lambda value: (1 + _sign(value)) / 2),
    "KroneckerDelta": (2, 2, 1, lambda one, other: Decimal(one == other)),
    "Add": (0, MAX_COST, 1, lambda *terms: sum(terms, Decimal(0))),
    "Mul": (0, MAX_COST, 1, lambda *factors: math.prod(factors, start=Decimal(1))),
    "Min": (1, MAX_COST, 1, min),
    "Max": (1, MAX_COST, 1, max),
    "floor": (1, 1, 1, lambda value: value.to_integral_value(decimal.ROUND_FLOOR)),
    "ceiling": (1, 1, 1, lambda value: value.to_integral_value(decimal.ROUND_CEILING)),
    **{
        name: (1, 1, 5, _binary64(getattr(math, name)))
        for name in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf")
    },
}

_COMPARISONS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
}
_RELATIONS = {
    name: _COMPARISONS[sign]
    for sign, names in {
        "<": ("Lt", "StrictLessThan"),
        "<=": ("Le", "LessThan"),
        ">": ("Gt", "StrictGreaterThan"),
        ">=": ("Ge", "GreaterThan"),
        "==": ("Eq", "Equality"),
        "!=": ("Ne", "Unequality"),
    }.items()
    for name in names
}
_CONSTANTS = {"pi": _PI, "E": _PRECISION.exp(Decimal(1)), "oo": Decimal("Infinity")}
_TRUTHS = {"True": True, "true": True, "False": False, "false": False}


def _constant(value: Decimal | bool) -> _Part:
    return _Part("condition" if isinstance(value, bool) else "number", lambda _: value, value)


def _all_of(parts: list[_Part]) -> _Part:
    values = [part.value for part in parts]

    def value(at: _Values) -> bool:
        at.spend(len(values))
        return all(value(at) for value in values)

    return _Part("condition", value)


def _any_of(parts: list[_Part]) -> _Part:
    values = [part.value for part in parts]

    def value(at: _Values) -> bool:
        at.spend(len(values))
        return any(value(at) for value in values)

    return _Part("condition", value)


def _negation(part: _Part) -> _Part:
    def value(at: _Values) -> bool:
        at.spend(1)
        return not part.value(at)

    return _Part("condition", value)


def _compare(compare: Callable[[Decimal, Decimal], bool], left: _Part, right: _Part) -> _Part:
    def value(at: _Values) -> bool:
        at.spend(_STEPS_OF_CHOICE)
        return compare(left.value(at), right.value(at))

    return _Part("condition", value)


def _piecewise(pairs: list[_Part]) -> _Part:
    branches = [pair.content for pair in pairs]

    def value(at: _Values) -> object:
        for number, condition in branches:
            at.spend(_STEPS_OF_CHOICE)
            if condition(at):
                return number(at)
        raise LookupError("no branch of the Piecewise holds")

    return _Part("number", value)


class _Parser:
    """Recursive descent with Python's precedence; chains of one sign are flat, so only brackets nest."""

    def __init__(self, text: str, symbols: frozenset[str]):
        self.text, self.symbols, self.used = text, symbols, set()
        self.position = self.start = 0
        self.nesting = self.cost = 0
        self.kind = self.token = ""
        self.advance()

    def error(self, reason: str) -> CaxflowError:
        return CaxflowError(
            f"{reason}, at character {self.start + 1} of the expression",
            "only numbers, known symbols, arithmetic, conditions and mathematical functions are admitted",
        )

    def advance(self) -> str:
        """Step to the next token; gives the one stepped over."""
        before = self.token
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            self.start = len(self.text) - len(self.text[self.position :].lstrip())
            raise self.error(f"{self.text[self.start]!r} is not admitted")
        self.kind, self.token = match.lastgroup, match[match.lastgroup]
        self.start, self.position = match.start(match.lastgroup), match.end()
        if len(self.token) > 100:
            raise self.error(f"a {self.kind} of {len(self.token)} characters is too long")
        return before

    def spend(self, cost: int) -> None:
        self.cost += cost
        if self.cost > MAX_COST:
            raise self.error("the expression has too many parts")

    def expect(self, sign: str) -> None:
        if self.kind != "sign" or self.token != sign:
            raise self.error(f"{sign!r} is missing")
        self.advance()

    def of_kind(self, kind: str, part: _Part) -> _Part:
        if part.kind != kind:
            raise self.error(f"a {part.kind} stands where a {kind} belongs")
        return part

    def at(self, *signs: str) -> bool:
        return self.kind == "sign" and self.token in signs

    def comparison(self) -> _Part:
        left = self.alternatives()
        if not self.at(*_COMPARISONS):
            return left
        compare = _COMPARISONS[self.advance()]
        right = self.alternatives()
        if self.at(*_COMPARISONS):
            raise self.error("chained comparisons are ambiguous")
        return _compare(compare, self.of_kind("number", left), self.of_kind("number", right))

    def chain(self, operand: Callable[[], _Part], sign: str, kind: str) -> list[_Part]:
        parts = [operand()]
        while self.at(sign):
            self.advance()
            parts.append(operand())
        return parts if len(parts) == 1 else [self.of_kind(kind, part) for part in parts]

    def alternatives(self) -> _Part:
        parts = self.chain(self.conjunction, "|", "condition")
        return parts[0] if len(parts) == 1 else _any_of(parts)

    def conjunction(self) -> _Part:
        parts = self.chain(self.sum, "&", "condition")
        return parts[0] if len(parts) == 1 else _all_of(parts)

    def operations(self, operand: Callable[[], _Part], signs: tuple[str, str]) -> list[tuple[str, _Part]]:
        parts = [(signs[0], operand())]
        while self.at(*signs):
            parts.append((self.advance(), operand()))
        if len(parts) > 1:
            for _, part in parts:
                self.of_kind("number", part)
        return parts

    def sum(self) -> _Part:
        terms = self.operations(self.product, ("+", "-"))
        if len(terms) == 1:
            return terms[0][1]

        def value(at: _Values) -> Decimal:
            at.spend(len(terms))
            total = Decimal(0)
            for sign, term in terms:
                total = total + term.value(at) if sign == "+" else total - term.value(at)
            return total

        return _Part("number", value)

    def product(self) -> _Part:
        factors = self.operations(self.signed, ("*", "/"))
        if len(factors) == 1:
            return factors[0][1]

        def value(at: _Values) -> Decimal:
            at.spend(len(factors) * _STEPS_OF_CHOICE)
            total = Decimal(1)
            for sign, factor in factors:
                total = total * factor.value(at) if sign == "*" else total / factor.value(at)
            return total

        return _Part("number", value)

    def signed(self) -> _Part:
        """A sign or a power; every nesting passes here, so its depth is counted here."""
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise self.error("the expression is nested too deeply")
        if self.at("-", "+"):
            negative = self.advance() == "-"
            part = self.of_kind("number", self.signed())
            if negative:
                inner = part
                part = _Part("number", lambda at: at.spend(1) or -inner.value(at))
        elif self.at("~"):
            self.advance()
            part = _negation(self.of_kind("condition", self.signed()))
        else:
            part = self.power()
        self.nesting -= 1
        return part

    def power(self) -> _Part:
        base = self.atom()
        if not self.at("**"):
            return base
        self.advance()
        self.of_kind("number", base)
        exponent = self.of_kind("number", self.signed())
        self.spend(40)

        def value(at: _Values) -> Decimal:
            by = exponent.value(at)
            at.spend(_steps_of_power(by))
            return _power(base.value(at), by)

        return _Part("number", value)

    def decimal(self, text: object) -> Decimal:
        try:
            return _PRECISION.create_decimal(text)
        except (decimal.DecimalException, TypeError, ValueError):
            raise self.error(f"{text!r} is not a usable number") from None

    def atom(self) -> _Part:
        self.spend(1)
        if self.kind == "number":
            return _constant(self.decimal(self.advance()))
        if self.kind == "text":
            content = self.advance()[1:-1]
            return _Part("text", lambda _: content, content)
        if self.at("("):
            self.advance()
            part = self.comparison()
            if self.at(","):
                part = self.pair(part)
            self.expect(")")
            return part
        if self.kind != "name":
            raise self.error(f"{self.token!r} is out of place" if self.token else "something is missing")
        start, name = self.start, self.advance()
        if self.at("("):
            return self.call(name, start)
        return self.named(name, start)

    def named(self, name: str, start: int) -> _Part:
        if name in self.symbols:
            self.used.add(name)
            return _Part("number", lambda at: at[name], name)
        if name in _CONSTANTS:
            return _constant(_CONSTANTS[name])
        if name in _TRUTHS:
            return _constant(_TRUTHS[name])
        self.start = start
        known = ", ".join(sorted(self.symbols)) or "none"
        raise self.error(f"{name!r} is not a known symbol (known: {known})")

    def pair(self, number: _Part) -> _Part:
        """A branch of a Piecewise, ``(value, condition)``."""
        self.expect(",")
        condition = self.comparison()
        return self.branch(number, condition)

    def branch(self, number: _Part, condition: _Part) -> _Part:
        content = (self.of_kind("number", number).value, self.of_kind("condition", condition).value)
        return _Part("pair", lambda _: content, content)

    def arguments(self) -> tuple[list[_Part], dict[str, _Part]]:
        positional, named = [], {}
        self.expect("(")
        while not self.at(")"):
            if positional or named:
                self.expect(",")
            if self.kind == "name" and re.match(r"\s*=(?!=)", self.text[self.position : self.position + 8]):
                key = self.advance()
                self.expect("=")
                named[key] = self.comparison()
            else:
                positional.append(self.comparison())
        self.expect(")")
        return positional, named

    def call(self, name: str, start: int) -> _Part:
        special = _SPECIAL.get(name)
        relation = _RELATIONS.get(name)
        function = _FUNCTIONS.get(name)
        if not (special or relation or function or name in ("And", "Or")):
            self.start = start
            raise self.error(f"{name!r} is not an admitted function")
        parts, named = self.arguments()
        if special:
            return special(self, parts, named)
        if named:
            raise self.error(f"{name} takes no named arguments")
        if name in ("And", "Or"):
            for part in parts:
                self.of_kind("condition", part)
            return _all_of(parts) if name == "And" else _any_of(parts)
        for part in parts:
            self.of_kind("number", part)
        if relation:
            self.count(name, parts, 2, 2)
            return _compare(relation, *parts)
        fewest, most, cost, compute = function
        self.count(name, parts, fewest, most)
        self.spend(cost)
        values = [part.value for part in parts]
        steps = _STEPS_OF_POWER if name == "Pow" else _STEPS * cost + len(values)

        def value(at: _Values) -> Decimal:
            at.spend(steps)
            return compute(*(value(at) for value in values))

        return _Part("number", value)

    def count(self, name: str, parts: list[_Part], fewest: int, most: int) -> None:
        if not fewest <= len(parts) <= most:
            raise self.error(f"{name} does not take {len(parts)} arguments")

    def make_symbol(self, parts: list[_Part], _assumptions: dict[str, _Part]) -> _Part:
        """``Symbol('t', integer=True)``: symbols are known by name, whatever is assumed about them."""
        self.count("Symbol", parts, 1, 1)
        return self.named(self.of_kind("text", parts[0]).content, self.start)

    def make_float(self, parts: list[_Part], named: dict[str, _Part]) -> _Part:
        """``Float('1.5', precision=53)``: up to 53 bits it is the double of that text."""
        self.count("Float", parts, 1, 2)
        value = self.decimal(parts[0].content)
        bits = named.get("precision", named.get("prec"))
        if bits is not None and isinstance(bits.content, Decimal) and bits.content <= 53:
            value = Decimal(float(value))
        return _constant(value)

    def make_integer(self, parts: list[_Part], _named: dict[str, _Part]) -> _Part:
        self.count("Integer", parts, 1, 1)
        return self.of_kind("number", parts[0])

    def make_rational(self, parts: list[_Part], _named: dict[str, _Part]) -> _Part:
        self.count("Rational", parts, 2, 2)
        over, under = (self.of_kind("number", part).value for part in parts)
        return _Part("number", lambda at: at.spend(_STEPS_OF_CHOICE) or over(at) / under(at))

    def make_poly(self, parts: list[_Part], _domain: dict[str, _Part]) -> _Part:
        """``Poly(expression, v, domain='RR')`` is the expression; the rest says how to print it."""
        self.count("Poly", parts, 1, 10)
        for generator in parts[1:]:
            if not isinstance(self.of_kind("number", generator).content, str):
                raise self.error("Poly needs symbols after its expression")
        return self.of_kind("number", parts[0])

    def make_not(self, parts: list[_Part], _named: dict[str, _Part]) -> _Part:
        self.count("Not", parts, 1, 1)
        return _negation(self.of_kind("condition", parts[0]))

    def make_branch(self, parts: list[_Part], _named: dict[str, _Part]) -> _Part:
        self.count("ExprCondPair", parts, 2, 2)
        return self.branch(*parts)

    def make_piecewise(self, parts: list[_Part], _named: dict[str, _Part]) -> _Part:
        self.count("Piecewise", parts, 1, MAX_COST)
        return _piecewise([self.of_kind("pair", part) for part in parts])


_SPECIAL = {
    "Symbol": _Parser.make_symbol,
    "Float": _Parser.make_float,
    "Integer": _Parser.make_integer,
    "Rational": _Parser.make_rational,
    "Poly": _Parser.make_poly,
    "Not": _Parser.make_not,
    "ExprCondPair": _Parser.make_branch,
    "Tuple": _Parser.make_branch,
    "Piecewise": _Parser.make_piecewise,
}
