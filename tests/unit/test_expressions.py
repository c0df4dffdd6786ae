"""Correction functions: the same values as SymPy, and nothing but mathematics."""

import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caxflow.conditions import expressions
from caxflow.errors import CaxflowError

START = 1_478_016_001.0  # 2016-11-01, as Unix time


def sympy_value(expression, **values):
    import sympy

    expression = expression.as_expr() if hasattr(expression, "as_expr") else expression
    by_name = {symbol: sympy.Float(values[symbol.name], 17) for symbol in expression.free_symbols}
    return float(expression.evalf(30, subs=by_name))


def genuine():
    """Expressions of the kinds that were kept for XENON1T."""
    import sympy as sp

    v, t = sp.symbols("v t")
    pmt = sp.Symbol("pmt", integer=True)
    rise = 650.5 - 400 * sp.exp(-(t - 1.4764e9) / 4.1e6)
    return {
        "drift velocity": sp.Poly.from_list([-2.1e-4, 0.0123, 0.0411, 1.0321], gens=v),
        "lifetime": sp.Piecewise(
            (rise, t < 1.475e9),
            (rise + 1.5e-5 * (t - 1.475e9), (t >= 1.475e9) & (t < 1.479e9)),
            (sp.Max(500, 3 * sp.log(t)), True),
        ),
        "gains": sp.Piecewise(
            *((1e6 + 1e4 * i - (t - 1.4e9) / 1e5, sp.Eq(pmt, i)) for i in range(20)), (2.0e6, True)
        ),
        # The terms are a thousand million times the result: doubles would keep six digits of it.
        "cancelling": sp.expand((t - 1478000000) ** 3 * sp.Rational(1, 10**9)),
        "functions": sp.sqrt(v) + sp.pi / 3 + sp.log(v, 10) + sp.atan(v) + sp.Abs(-v) + sp.Min(v, 3, t),
        "conditions": sp.Piecewise((1, sp.Or(v < 1, sp.Not(sp.Ne(pmt, 3)))), (sp.E, True)),
        "deltas": 3 * sp.KroneckerDelta(pmt, 3) + sp.Heaviside(v - 2) + sp.tan(v) ** -2 + sp.floor(v),
    }


@pytest.mark.parametrize("form", ["str", "srepr"])
@pytest.mark.parametrize("which", genuine())
@pytest.mark.parametrize(("v", "pmt"), [(12.0, 3), (8.5, 0), (0.5, 259)])
def test_genuine_expressions_have_sympys_values(form, which, v, pmt):
    import sympy

    expression = genuine()[which]
    text = str(expression) if form == "str" else sympy.srepr(expression)
    found = expressions.parse(text, ("v", "t", "pmt"))(v=v, t=START, pmt=pmt)
    assert found == pytest.approx(sympy_value(expression, v=v, t=START, pmt=pmt), rel=1e-12)


def trees():
    """Random expressions as SymPy objects."""
    import sympy as sp

    v, t = sp.symbols("v t")
    leaves = st.one_of(
        st.integers(-9, 9).map(sp.Integer),
        st.floats(-100, 100).map(lambda x: sp.Float(repr(x), 15)),
        st.sampled_from([v, t, sp.pi]),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
            st.tuples(inner, inner).map(lambda pair: pair[0] * pair[1]),
            st.tuples(inner, inner).map(lambda pair: pair[0] - pair[1]),
            st.tuples(inner, st.integers(1, 4)).map(lambda pair: pair[0] ** pair[1]),
            inner.map(lambda one: sp.sqrt(one**2 + 1)),
            inner.map(lambda one: sp.exp(-(one**2))),
            st.tuples(inner, inner).map(lambda pair: sp.Max(*pair)),
        ),
        max_leaves=8,
    )


@settings(max_examples=150)
@given(tree=trees(), v=st.floats(0.1, 20), t=st.floats(1, 100))
def test_random_expressions_have_sympys_values(tree, v, t):
    import sympy

    wanted = sympy_value(tree, v=v, t=t)
    for text in (str(tree), sympy.srepr(tree)):
        # str() of a SymPy number shows 15 digits of it.
        found = expressions.parse(text, ("v", "t"))(v=v, t=t)
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-9 * (1 + abs(wanted)))


def test_symbols_are_known_by_name_whatever_is_assumed_of_them():
    text = "Symbol('t', integer=True, positive=True) + t"
    expression = expressions.parse(text, ("t", "unused"))
    assert expression.symbols == {"t"}
    assert expression(t=3, unused=5) == 6


def test_precision_of_float_is_that_of_its_bits():
    assert expressions.parse("Float('0.1', prec=53)", ())() == 0.1
    digits = expressions.parse("(Float('0.1', precision=53) - Float('0.1', precision=200))*10**20", ())()
    assert digits == pytest.approx(555.111512312578, rel=1e-6)


def test_only_the_branch_that_holds_is_evaluated():
    assert expressions.parse("Piecewise((log(v), v > 0), (0, True))", ("v",))(v=-1) == 0


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "import os",
        "().__class__.__bases__",
        "v.real",
        "Symbol('v').name",
        "Symbol('__class__')",
        "'a'.join('b')",
        "(lambda: 1)()",
        "[1 for v in (1, 2)]",
        "{1: 2}",
        "(x := 1)",
        "1 if v else 2",
        "v or 1",
        "f'{v}'",
        "b'v'",
        "v; v",
        "v\n__import__('os')",
        "eval('1')",
        "exec",
        "open('/etc/passwd')",
        "sympify('1')",
        "Function('f')(v)",
        "Lambda(v, v)",
        "Integral(v, v)",
        "Sum(v, (v, 1, oo))",
        "solve(v)",
        "factorial(10**9)",
        "v!",
        "v[0]",
        "v @ v",
        "v // 2",
        "v % 2",
        "v << 2",
        "*v",
        "exp(*v)",
        "exp(**v)",
        "exp(v, evaluate=False)",
        "Float(v)",
        "Float('ten')",
        "Float('1', '2')()",
        "Poly(v, 3)",
        "Piecewise(1, 2)",
        "Piecewise((1, 2))",
        "Piecewise()",
        "(1, True)",
        "1 < 2",
        "1 < v < 3",
        "v & 1",
        "~v",
        "-(v < 1)",
        "exp()",
        "exp(1, 2)",
        "Eq(v)",
        "'text'",
        "other + 1",
        "1 2",
        "1 +",
        "(1",
        "1)",
        "",
        "  ",
        "\0",
        "\uff45\uff58\uff50(1)",
        "\u0661",
        "1e99999999999999999999",
        "0x10",
        "1_000",
        "1j",
    ],
)
def test_what_is_not_mathematics_is_refused(text):
    with pytest.raises(CaxflowError, match="character"):
        expressions.parse(text, ("v",))


@pytest.mark.parametrize("value", [None, 3, b"v", ["v"], {"$gt": ""}])
def test_what_is_not_text_is_refused(value):
    with pytest.raises(CaxflowError, match="not text"):
        expressions.parse(value, ("v",))


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000 + "1" + ")" * 100_000,
        "exp(" * 100_000,
        "-" * 100_000 + "1",
        "~" * 100_000 + "(v<1)",
        "2**" * 100_000 + "2",
        "Add(" * 500 + "1" + ")" * 500,
        "9" * 100_000,
        "v" * 100_000,
        "'" + "v" * 100_000 + "'",
        "1+" * 1_000_000 + "1",
        "v**v*" * 100_000 + "1",
        "exp(v)+" * 100_000 + "1",
        "Piecewise(" + "(1, v < 1), " * 200_000 + "(1, True))",
        "1" + " " * expressions.MAX_CHARACTERS,
    ],
    ids=lambda text: text[:10],
)
def test_size_and_nesting_are_bounded(text):
    with pytest.raises(CaxflowError, match=r"too (long|deeply|many)|characters"):
        expressions.parse(text, ("v",))


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9**9",
        "(10**100)**(10**100)",
        "1.0000001**10**18",
        "exp(exp(exp(100)))",
        "cosh(10**6)",
        "1/0",
        "1/(v - 2)",
        "0**(-1)",
        "log(0)",
        "log(-1)",
        "sqrt(-v)",
        "(-8)**(1/3)",
        "asin(v)",
        "oo",
        "oo - oo",
        "sin(oo)",
        "Float('nan')",
        "Float('inf')",
        "floor(10**9000)",
        "Piecewise((1, v < 1))",
        "Max(Float('nan'), v)",
    ],
)
def test_a_result_that_is_no_finite_real_number_is_an_error(text):
    with pytest.raises(CaxflowError, match=r"not a finite real number|no branch of the Piecewise"):
        expressions.parse(text, ("v",))(v=2)


def test_a_long_sum_is_no_nesting():
    text = "+".join(f"v*{number}" for number in range(20_000))
    assert expressions.parse(text, ("v",))(v=2) == 2 * sum(range(20_000))


def test_the_error_says_where_and_with_which_value():
    with pytest.raises(CaxflowError, match=r"'w' is not a known symbol \(known: v\), at character 5"):
        expressions.parse("v + w", ("v",))
    with pytest.raises(CaxflowError, match=r"\(at v = 2\)"):
        expressions.parse("log(1 - v)", ("v",))(v=2)


@settings(max_examples=300)
@given(st.text(alphabet="0123456789.eE+-*/()<>=&|~,'v \"_:[]{}PiecewsxpSymbol", max_size=60))
def test_any_text_gives_a_number_or_a_clear_error(text):
    with contextlib.suppress(CaxflowError):
        assert math.isfinite(expressions.parse(text, ("v",))(v=1.5))
