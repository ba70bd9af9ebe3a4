"""Units are undone exactly, and a table finds the columns that are meant."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sklearn.compose import make_column_selector

from skemvae.likelihoods import Categorical, Gaussian, Poisson
from skemvae.likelihoods.columns import Table, assign_columns, is_numeric
from skemvae.likelihoods.units import Binary, Categories, Continuous, Counts, Logarithmic
from tests.strategies import seeds, tables, weights_of

NAMES = ("a", "b", "c", "d", "e")


def standard(X, weight=None):
    """Units, and the codes of the rows that they were learnt from."""
    units = Continuous.standard(NAMES[: X.shape[1]], X, weight)
    return units, units.encode(X, exact=True)


@given(tables(), st.data())
def test_standard_codes_have_mean_0_and_variance_1(X, data):
    weight = data.draw(weights_of(len(X)))
    units, u = standard(X, weight)
    varied = np.ptp(X, axis=0) > 0
    np.testing.assert_allclose(np.average(u, 0, weight), 0, atol=1e-9)
    np.testing.assert_allclose(np.average(u**2, 0, weight), varied, atol=1e-9)
    np.testing.assert_allclose(units.decode(u), X, rtol=1e-12, atol=1e-12 * np.abs(X).max())
    assert (u[0] >= 0).all()


@given(tables(), st.sampled_from([1.0, -1.0]), st.integers(-330, 330))
@example(np.array([[0.0], [-3.0], [1.0], [2.0]]), -1.0, 0)  # the first row lies at the mean
@example(np.zeros((12, 2)), 1.0, -1)  # zeros have no unit
def test_units_of_powers_of_two_leave_no_trace_in_any_bit(X, sign, power):
    unit = sign * 2.0**power
    (units, u), (scaled, v) = standard(X), standard(unit * X)
    np.testing.assert_array_equal(v, u)
    change = np.count_nonzero(X.any(axis=0)) * np.log(np.abs(unit))
    assert scaled.log_volume - units.log_volume == pytest.approx(change, abs=1e-9)


@given(seeds, st.floats(-100, 100), st.sampled_from([1, -1]), st.sampled_from([0, 3.3, -1e8]))
def test_affine_maps_leave_hardly_a_trace(seed, power, sign, offset):
    X = np.random.default_rng(seed).standard_normal((20, 2))
    _, u = standard(X)
    assume(u[0].min() > 1e-3)  # else rounding may turn the sign of the first row
    unit = sign * 10.0**power
    units, v = standard(unit * (X + offset))
    np.testing.assert_allclose(v, u, atol=1e-11 * max(1e4, abs(offset)))
    decoded = units.decode(v) / unit - offset
    np.testing.assert_allclose(decoded, X, atol=1e-12 * max(1, abs(offset)))


@given(tables(), seeds)
def test_weights_count_as_repeated_rows(X, seed):
    times = np.append(1, np.random.default_rng(seed).integers(1, 4, size=len(X) - 1))
    weighted, repeated = standard(X, times.astype(float)), standard(np.repeat(X, times, 0))
    codes = np.repeat(weighted[1], times, 0)
    # A first row at the mean may take either sign.
    np.testing.assert_allclose(np.abs(codes), np.abs(repeated[1]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 1e-300, -0.1, 1e8 / 3, -1e300])
def test_constant_columns_keep_their_magnitude(value):
    units, u = standard(np.full((7, 1), value))
    assert (u == 0).all()
    np.testing.assert_allclose(units.scale, abs(value) or 1.0)
    assert units.encode([[value + units.scale[0]]], exact=True) == pytest.approx(1)


@given(tables())
def test_the_volume_is_that_of_a_unit_of_the_codes(X):
    units, _ = standard(X)
    edges = units.decode(np.ones(X.shape[1])) - units.decode(np.zeros(X.shape[1]))
    error = 1e-12 * np.abs(X).max() / np.abs(units.scale).min()
    assert units.log_volume == pytest.approx(np.log(np.abs(edges)).sum(), abs=error + 1e-12)
    raw = Continuous.raw(units.names)
    assert raw.log_volume == 0
    np.testing.assert_array_equal(raw.decode(raw.encode(X, exact=True)), X)


@pytest.mark.parametrize(
    ("kind", "exact", "value"),
    [(Binary, False, -0.1), (Binary, False, 1.5), (Binary, True, 0.5), (Binary, True, 2.0)]
    + [(Counts, exact, value) for exact in (True, False) for value in (-1.0, 0.5, 2.0**25)],
)
def test_a_value_outside_is_named_with_its_column_and_row(kind, exact, value):
    X = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, value]])
    with pytest.raises(ValueError, match=rf"Column b holds .*{value}.* in row 2: "):
        kind(("a", "b")).encode(X, exact=exact)


@pytest.mark.parametrize("value", [0.0, -1.0, -1e-300])
@pytest.mark.parametrize(
    "encode",
    [
        lambda X: Logarithmic.standard(("a", "b"), X, None),
        lambda X: Logarithmic.standard(("a", "b"), X[:2], None).encode(X, exact=True),
        lambda X: Logarithmic.raw(("a", "b")).encode(X, exact=True),
    ],
)
def test_a_value_that_is_not_positive_is_named_with_its_remedy(encode, value):
    X = np.array([[1.0, 1.0], [2.0, 3.0], [1.0, value]])
    with pytest.raises(ValueError, match=rf"Column b holds {value}.* in row 2: .*Add a constant"):
        encode(X)


@given(tables(), st.sampled_from([np.float64, np.float32]))
def test_logarithmic_codes_are_those_of_the_logarithms_and_decode_to_positive_values(X, dtype):
    logarithms = np.clip(X / max(np.abs(X).max(), 1e-300), -1, 1) * 80
    names = NAMES[: X.shape[1]]
    units = Logarithmic.standard(names, np.exp(logarithms), None)
    u = units.encode(np.exp(logarithms), exact=True)
    expected = Continuous.standard(names, np.log(np.exp(logarithms)), None)
    np.testing.assert_array_equal(u, expected.encode(np.log(np.exp(logarithms)), exact=True))
    np.testing.assert_allclose(units.decode(u), np.exp(logarithms), rtol=1e-9)
    everywhere = units.decode(np.full((1, X.shape[1]), 1e30, dtype))
    assert (everywhere > 0).all()
    assert np.isfinite(everywhere.astype(dtype)).all()


@given(st.lists(st.integers(0, 2**24), min_size=1))
def test_counts_and_bits_are_their_own_codes(values):
    X = np.array(values, dtype=float)[:, None]
    for units, column in [(Counts(("a",)), X), (Binary(("a",)), X % 2)]:
        u = units.encode(column.astype(np.float32), exact=True)
        np.testing.assert_array_equal(units.decode(u), column)
        assert units.log_volume == 0
    np.testing.assert_array_equal(Binary(("a",)).encode(X / 2**24, exact=False), X / 2**24)


# Labels.

labels = st.lists(st.integers(0, 5), min_size=1, max_size=20)
alphabets = [
    ["", " ", "ü", "A", "a", "0"],
    [10**15 + i for i in range(6)],
    ["mixed", 1, 2.5, False, -np.inf, "1"],
]


@given(labels, st.sampled_from(alphabets), st.permutations(range(6)))
def test_new_names_for_labels_leave_codes_as_they_are(column, alphabet, order):
    X = np.empty((len(column), 1), dtype=object)
    X[:, 0] = [alphabet[order[i]] for i in column]
    units = Categories.of(("a",), X)
    codes = units.encode(X, exact=True)
    assert codes[:, 0].tolist() == [list(dict.fromkeys(column)).index(i) for i in column]
    assert units.decode(codes).tolist() == X.tolist()
    plain = np.array(column)[:, None]
    np.testing.assert_array_equal(Categories.of(("a",), plain).encode(plain, exact=True), codes)


@given(labels, labels)
def test_a_label_not_seen_is_minus_one_and_then_nothing(seen, column):
    units = Categories.of(("a",), np.array(seen)[:, None])
    codes = units.encode(np.array(column)[:, None], exact=True)
    assert (codes[:, 0] == -1).tolist() == [label not in seen for label in column]
    decoded = units.decode(codes)[:, 0].tolist()
    assert decoded == [label if label in seen else None for label in column]


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float32, "U3", object])
def test_labels_of_any_dtype_are_found_again(dtype):
    X = np.array([[1, 0], [0, 0], [1, 1]]).astype(dtype)
    units = Categories.of(("a", "b"), X)
    assert units.encode(X, exact=True).tolist() == [[0, 0], [1, 0], [0, 1]]
    assert units.encode(X.astype(object), exact=True).tolist() == [[0, 0], [1, 0], [0, 1]]
    assert (units.decode(units.encode(X, exact=True)) == X).all()


unknown = [None, np.nan, np.float32("nan"), pd.NaT, pd.NA]
missing = [np.array([["a", "b"], ["a", value]], dtype=object) for value in unknown]
missing += [np.array([[1, 1], [1, np.nan]]), np.array([["2026", "2026"], ["2026", "NaT"]], "M8[Y]")]


@pytest.mark.parametrize("X", missing)
def test_a_missing_label_is_named_with_its_column_and_row(X):
    units, message = Categories.of(("x", "y"), X[:1]), r"Column y holds .* in row 1: missing"
    with pytest.raises(ValueError, match=message):
        units.encode(X, exact=True)
    with pytest.raises(ValueError, match=message):
        Categories.of(units.names, X)


# Columns.


def frame(n=40, seed=0):
    """Real numbers, counts, bits and two columns of labels."""
    rng = np.random.default_rng(seed)
    counts, bits = rng.poisson(3.0, n), rng.integers(2, size=n)
    colours, days = rng.choice(["red", "green", "blue"], n), 20_240_000 + rng.integers(1, 9, n)
    columns = [rng.normal(5, 3, n), counts, bits, colours, days]
    return pd.DataFrame(dict(zip(NAMES, columns, strict=True)))


KINDS = [("gaussian", "a"), ("poisson", ["b"]), ("bernoulli", [2]), ("categorical", ["d", "e"])]


bcd = [[1, 2, 3], (1, -3, 3), ["b", "c", "d"], slice(1, 4), slice(-4, -1), slice("b", "d")]
bcd += [[False, True, True, True, False], np.array([1, 2, 3]), np.array([0, 1, 1, 1, 0]) > 0]
bcd += [pd.Index(["b", "c", "d"]), pl.Series(["b", "c", "d"]), pl.Series([1, 2, 3])]
bcd += [make_column_selector(pattern="[bcd]"), lambda X: list(X.columns[1:4])]


@pytest.mark.parametrize("columns", bcd)
def test_columns_are_found_however_they_are_called(columns):
    others = [("gaussian", make_column_selector(dtype_include="float")), ("poisson", [])]
    others += [("categorical", lambda X: [4])]
    blocks = assign_columns([("bernoulli", columns), *others], frame(), NAMES)
    assert [where.tolist() for _, where in blocks] == [[1, 2, 3], [0], [4]]
    assert [repr(head) for head, _ in blocks[::2]] == ["Bernoulli()", "Categorical()"]


@pytest.mark.parametrize("column", ["d", 3, -2, np.int64(3), np.str_("d")])
def test_a_single_column_needs_no_list(column):
    kinds = [("categorical", column), ("gaussian", slice(3)), ("gaussian", "e")]
    blocks = assign_columns(kinds, frame(), NAMES)
    assert [where.tolist() for _, where in blocks] == [[3], [0, 1, 2], [4]]


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        ([("gaussian", [0, 1, 2])], r"Columns \['d', 'e'\] have no likelihood"),
        ([], r"Columns \['a', 'b', 'c', 'd', 'e'\] have no likelihood"),
        ([("gaussian", slice(5)), ("poisson", "b")], "Column b has two likelihoods: Gaussian.*Poi"),
        ([("gaussian", ["a", "a"])], "twice"),
        ([("gaussian", ["a", "z"])], "'z'.* are not among the feature names"),
        ([("gaussian", slice("a", "z"))], "are not among the feature names"),
        ([("gaussian", [5])], "are not positions of 5 features"),
        ([("gaussian", [True, False])], "mask of shape"),
        ([("normal", slice(5))], "likelihood='normal' is not one of"),
        (["gaussian"], "expected a name, an object of skemvae.likelihoods or a list of pairs"),
        (None, "expected a name"),
    ],
)
def test_what_cannot_be_assigned_is_named(likelihood, message):
    with pytest.raises(ValueError, match=message):
        assign_columns(likelihood, frame(), NAMES)


def test_one_likelihood_is_that_of_all_columns_and_its_object_stays_as_it_is():
    mine = Gaussian("shared")
    for likelihood in ("gaussian", mine, [(mine, slice(None))]):
        ((head, where),) = assign_columns(likelihood, np.zeros((2, 3)), range(3))
        assert where.tolist() == [0, 1, 2]
        assert head is not mine
        head.bind(torch.zeros(2, 3), torch.ones(2), None)
    assert not hasattr(mine, "n_outputs")


def test_only_one_likelihood_can_ask_for_numbers_everywhere():
    assert is_numeric("gaussian")
    assert is_numeric(Poisson())
    assert not is_numeric(Categorical())
    assert not is_numeric([("gaussian", 0), (Poisson(), 1)])  # each pair says it of its own columns


# Whole tables.


def learnt(likelihood, X, names):
    """Bound blocks, a table, and the log-density of each row if columns are independent."""
    blocks = assign_columns(likelihood, X, names)
    table = Table.of(blocks, X, names, np.ones(X.shape[0]), True)
    u = torch.from_numpy(table.encode(X, np.float64, exact=True))
    total = -table.log_volume
    for (head, _), where, units in zip(blocks, table.slices, table.blocks, strict=True):
        eta = head.bind(u[:, where], torch.ones(len(u)).double(), units)
        total = total + head.log_prob(u[:, where], eta).detach()
    return table, u.numpy(), total


def same(actual, X):
    assert actual.shape == X.shape
    for j, name in enumerate(X.columns):
        column = X[name].to_numpy()
        if name == "a":
            np.testing.assert_allclose(actual[:, j].astype(float), column, rtol=1e-12)
        else:
            assert actual[:, j].tolist() == column.tolist()


@given(st.permutations(NAMES), st.permutations(range(4)), seeds)
def test_neither_columns_nor_blocks_nor_containers_need_an_order(names, order, seed):
    X = frame(seed=seed)
    _, _, expected = learnt(KINDS, X, NAMES)
    moved = X[list(names)]
    kinds = [("bernoulli", "c") if kind == "bernoulli" else (kind, c) for kind, c in KINDS]
    kinds = [kinds[i] for i in order]
    for container in (moved, pl.DataFrame(moved.to_dict("list")), moved.to_numpy(dtype=object)):
        table, u, actual = learnt(kinds, container, names)
        np.testing.assert_allclose(actual, expected, rtol=1e-12)
        same(table.decode(u), moved)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_tables_of_numbers_are_decoded_to_numbers(dtype):
    X = frame().drop(columns="d")
    table, u, _ = learnt([("gaussian", "a"), ("poisson", [1, 2]), ("categorical", "e")], X, "abce")
    decoded = table.decode(u.astype(dtype))
    assert decoded.dtype.kind == "f"
    np.testing.assert_allclose(decoded[:, 0], X["a"], rtol=1e-4)
    np.testing.assert_array_equal(decoded[:, 1:], X.iloc[:, 1:])


@given(seeds, st.integers(-300, 300))
def test_the_density_is_one_of_the_values_in_their_own_unit(seed, power):
    X = frame(seed=seed)
    _, _, expected = learnt(KINDS, X, NAMES)
    _, _, actual = learnt(KINDS, X.assign(a=X["a"] * -(2.0**power)), NAMES)
    np.testing.assert_allclose(actual, expected - power * np.log(2), rtol=1e-12, atol=1e-9)


def test_values_that_are_no_numbers_are_refused_where_numbers_are_needed():
    for value in (np.nan, np.inf):
        X = frame().assign(a=value)
        with pytest.raises(ValueError, match=r"first in row 0, column 'a'"):
            learnt(KINDS, X, NAMES)
    with pytest.raises(ValueError, match=r"Column b holds .*-1.* in row 3"):
        learnt(KINDS, frame().assign(b=lambda X: X["b"].where(X.index != 3, -1)), NAMES)
