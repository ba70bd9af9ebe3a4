"""Conversion between the values of a column and the codes that a network computes with."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import numpy as np

from skemvae.tables.numbers import is_missing
from skemvae.validation import escaped, shown

# A spread this small, relative to the first value of a column, is rounding error.
_CONSTANT = 1e-12
# Beyond this, an integer may not be exact in float32, in which networks are trained.
LARGEST_COUNT = 2**24
# A column with more labels probably identifies its rows, or would need too much memory.
_MOST_LABELS = 1_000


class Units(ABC):
    """Turns the columns of one block into numbers ("codes") and back.

    ``names`` are the names of the columns, for errors.
    """

    names: tuple[str, ...]
    # Whether the values must be finite numbers.
    numeric = True

    @abstractmethod
    def encode(self, X: Any, *, exact: bool) -> Any:
        """Codes of the values, float64 of shape (n, d).

        ``exact`` refuses values that can be trained on but have no density.

        Raises
        ------
        ValueError
            If a value lies outside the support.
        """

    @abstractmethod
    def decode(self, codes: Any) -> Any:
        """Values of the codes."""

    @property
    def log_volume(self) -> float:
        """Logarithm of the volume of a unit of the codes, in the units of X."""
        return 0.0

    def upright(self) -> Self:
        """The same units, with no column flipped in sign."""
        return self

    def _refuse(self, X: Any, wrong: Any, reason: str) -> None:
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            value = X[row, column : column + 1].tolist()[0]
            raise ValueError(
                f"Column {escaped(self.names[column])} holds {shown(value)} in row {row}: {reason}"
            )


@dataclass(frozen=True)
class Continuous(Units):
    """Real numbers, shifted and scaled.

    A scale may be negative: the first row that is off the mean is above it in
    every column of codes, so that reflecting the data does not change a fit.
    """

    names: tuple[str, ...]
    shift: Any
    scale: Any

    @classmethod
    def raw(cls, names: tuple[str, ...]) -> Self:
        """Leave values as they are."""
        return cls(names, np.zeros(len(names)), np.ones(len(names)))

    @classmethod
    def standard(cls, names: tuple[str, ...], X: Any, weight: Any) -> Self:
        """Give each column mean 0 and variance 1; constant columns keep their magnitude."""
        largest = np.abs(X).max(0)
        # A power of two, so that the squares of Z neither overflow nor underflow.
        unit = np.exp2(np.minimum(np.frexp(largest)[1], 1023))
        Z = X / unit
        first = Z[0]
        Z = Z - first  # so that a large offset costs no digits
        shift = np.average(Z, axis=0, weights=weight)
        spread = np.sqrt(np.average(np.square(Z - shift), axis=0, weights=weight))
        constant = spread <= _CONSTANT * np.abs(first)
        scale = np.where(constant, np.where(largest > 0, largest / unit, 1.0), spread)
        # Flip columns so that the first row off the mean lies above it.
        off = Z - shift
        row = np.argmax(np.abs(off) > 1e-9 * spread, axis=0)
        below = off[row, np.arange(len(unit))] < 0
        return cls(names, (first + shift) * unit, scale * np.where(below, -unit, unit))

    def encode(self, X: Any, *, exact: bool) -> Any:
        return (np.asarray(X, dtype=np.float64) - self.shift) / self.scale

    def decode(self, codes: Any) -> Any:
        return codes * self.scale + self.shift

    @property
    def log_volume(self) -> float:
        return float(np.log(np.abs(self.scale)).sum())

    def upright(self) -> Self:
        return replace(self, scale=np.abs(self.scale))


@dataclass(frozen=True)
class Logarithmic(Continuous):
    """Positive numbers, whose logarithms are shifted and scaled.

    A unit of the codes is ``exp(scale * u)`` times as long at u as at 0;
    ``log_volume`` refers to u = 0.
    """

    @classmethod
    def standard(cls, names: tuple[str, ...], X: Any, weight: Any) -> Self:
        return super().standard(names, cls.raw(names)._logarithms(X), weight)

    def _logarithms(self, X: Any) -> Any:
        X = np.asarray(X, dtype=np.float64)
        self._refuse(
            X,
            X <= 0,
            "a log-normal likelihood needs positive values. Add a constant to the column, or, "
            "if 0 means that there is none, mark it in a column of 0 and 1 and replace it by a "
            "typical value.",
        )
        return np.log(X)

    def encode(self, X: Any, *, exact: bool) -> Any:
        return super().encode(self._logarithms(X), exact=exact)

    def decode(self, codes: Any) -> Any:
        limits = np.finfo(codes.dtype)
        with np.errstate(over="ignore", under="ignore"):
            # Values beyond the range of the dtype become its smallest or largest number.
            return np.exp(super().decode(codes)).clip(limits.smallest_subnormal, limits.max)

    @property
    def log_volume(self) -> float:
        return super().log_volume + float(self.shift.sum())


@dataclass(frozen=True)
class Binary(Units):
    """0 or 1, or a probability of 1."""

    names: tuple[str, ...]

    def encode(self, X: Any, *, exact: bool) -> Any:
        X = np.asarray(X, dtype=np.float64)
        if exact:
            self._refuse(
                X,
                (X != 0) & (X != 1),
                "a Bernoulli likelihood scores 0 and 1 only, because p^x (1 - p)^(1 - x) is not a "
                "density of values in [0, 1]. Threshold or draw the values first.",
            )
        else:
            self._refuse(X, (X < 0) | (X > 1), "a Bernoulli likelihood needs values in [0, 1].")
        return X

    def decode(self, codes: Any) -> Any:
        return codes


@dataclass(frozen=True)
class Counts(Units):
    """0, 1, 2, ..."""

    names: tuple[str, ...]

    def encode(self, X: Any, *, exact: bool) -> Any:
        X = np.asarray(X, dtype=np.float64)
        wrong = (X < 0) | (np.floor(X) != X) | (X > LARGEST_COUNT)
        self._refuse(X, wrong, f"counts are integers from 0 to {LARGEST_COUNT}.")
        return X

    def decode(self, codes: Any) -> Any:
        return codes


@dataclass(frozen=True)
class Categories(Units):
    """Labels of any kind, numbered by first appearance; -1 stands for labels not seen in fit."""

    names: tuple[str, ...]
    labels: tuple[tuple[Any, ...], ...]

    numeric = False

    @classmethod
    def of(cls, names: tuple[str, ...], X: Any) -> Self:
        """Collect the labels of each column."""
        cls(names, ((),) * len(names)).refuse_missing(X)
        labels = tuple(tuple(dict.fromkeys(column)) for column in X.T.tolist())
        many = [
            f"{name!r} ({len(own):,})"
            for name, own in zip(names, labels, strict=True)
            if len(own) > _MOST_LABELS
        ]
        if many:
            raise ValueError(
                f"Categorical columns have more than {_MOST_LABELS:,} labels: {', '.join(many)}. "
                "Leave identifiers out, or group rare labels."
            )
        return cls(names, labels)

    @property
    def all_numbers(self) -> bool:
        """Whether every label is a number."""
        return all(isinstance(label, Real) for labels in self.labels for label in labels)

    def refuse_missing(self, X: Any) -> None:
        """Raise ValueError for None and NaN."""
        if X.dtype.kind == "O":
            missing = np.array([[is_missing(value) for value in row] for row in X.tolist()])
        elif X.dtype.kind in "fcmM":
            missing = X != X
        else:
            return
        self._refuse(X, missing, "missing values are not supported: drop or impute them.")

    def encode(self, X: Any, *, exact: bool) -> Any:
        self.refuse_missing(X)
        codes = np.empty(X.shape)
        for j, column in enumerate(X.T.tolist()):
            number = {label: i for i, label in enumerate(self.labels[j])}
            codes[:, j] = [number.get(label, -1) for label in column]
            unseen = [column[row] for row in np.flatnonzero(codes[:, j] < 0)]
            if 2 * len(unseen) > len(column):
                self._warn_of_types(j, unseen)
        return codes

    def _warn_of_types(self, j: int, unseen: Sequence[Any]) -> None:
        """Warn if most unseen labels differ from those seen in fit only by their type."""
        seen = {_value_of(label): label for label in self.labels[j]}
        same = [label for label in unseen if _value_of(label) in seen]
        if 2 * len(same) <= len(unseen):
            return
        here, there = same[0], seen[_value_of(same[0])]
        if type(here) is type(there):
            return
        warnings.warn(
            f"Column {escaped(self.names[j])} holds labels of type {type(here).__name__}, such as "
            f"{shown(here)}, where fit has seen {type(there).__name__}, such as {shown(there)}, so "
            "most of them count as unseen. Convert the column to the type that it had in fit.",
            stacklevel=2,
        )

    def decode(self, codes: Any) -> Any:
        """Labels of the codes; None for a label not seen in fit."""
        columns = []
        for j, labels in enumerate(self.labels):
            lookup = np.empty(len(labels) + 1, dtype=object)
            lookup[:-1] = labels
            columns.append(lookup[codes[:, j].astype(int)])
        return np.stack(columns, axis=1)


def _value_of(label: Any) -> Any:
    """The number, or else the text, that labels of different types have in common."""
    text = label.decode(errors="replace") if isinstance(label, bytes) else str(label).strip()
    try:
        return float(text)
    except ValueError:
        return text
