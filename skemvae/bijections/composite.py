"""Transformers made of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import _safe_indexing

from skemvae.bijections.base import Bijection, bijection_for, bijection_of
from skemvae.typing import Array, BoolArray, FloatArray, IntArray, Tabular
from skemvae.validation import select_columns, shown


class Composite(Bijection):
    """A bijection made of parts.

    Parameters
    ----------
    transformer : transformer
        Fitted.
    parts : list of Bijection
        At least one.
    """

    def __init__(self, transformer: BaseEstimator, parts: list[Bijection]):
        super().__init__(transformer)
        self.parts = parts
        self.is_onto = all(part.is_onto for part in parts)
        self.has_inverse = all(part.has_inverse for part in parts)
        self.n_parameters = sum(part.n_parameters for part in parts)

    @property
    def acts_by_column(self) -> bool:  # type: ignore[override]
        """Whether all parts act on each column separately."""
        return all(part.acts_by_column for part in self.parts)


@bijection_for(Pipeline)
class Chain(Composite):
    """Apply the parts one after another; their log determinants add up.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted, of transformers only.
    """

    def __init__(self, pipeline: Pipeline):
        steps = [step for _, step in pipeline.steps if step not in (None, "passthrough")]
        super().__init__(pipeline, [bijection_of(step) for step in steps])

    def log_abs_det(self, X: Tabular) -> FloatArray:
        return self.forward(X)[1]

    def stages(self, X: Tabular) -> Iterator[tuple[Bijection, Tabular]]:
        for part in self.parts:
            yield from part.stages(X)
            X, _ = part.forward(X)

    def forward(self, X: Tabular) -> tuple[Tabular, FloatArray]:
        log_abs_det = np.zeros(X.shape[0])
        for part in self.parts:
            inside = np.flatnonzero(log_abs_det != -np.inf)
            if len(inside) == 0:
                break
            X, change = part.forward(X)
            log_abs_det[inside] += change
        return X, log_abs_det

    def by_columns(self, X: Tabular) -> tuple[IntArray, FloatArray]:
        places: IntArray = np.arange(X.shape[1])
        log_slopes = np.zeros(X.shape)
        inside = np.arange(len(log_slopes))
        for part in self.parts:
            onwards, change = part.by_columns(X)
            log_slopes[inside] += change[:, places]
            places = onwards[places]
            X, log_abs_det = part.forward(X)
            inside = inside[log_abs_det != -np.inf]
        return places, log_slopes

    def inverse(self, Y: Array) -> tuple[Array, BoolArray]:
        inside = np.ones(len(Y), dtype=bool)
        for part in reversed(self.parts):
            if len(Y):
                Y, still_inside = part.inverse(Y)
                inside[inside] = still_inside
        return Y, inside


class SideBySide(Composite):
    """Apply each part to its own columns; their log determinants add up.

    Parameters
    ----------
    transformer : transformer
        Fitted.
    parts : list of Bijection
        At least one.
    places : list of (positions, positions)
        For each part: the positions of its columns in x, and those in y.
    """

    def __init__(
        self, transformer: BaseEstimator, parts: list[Bijection], places: list[tuple[Any, Any]]
    ):
        super().__init__(transformer, parts)
        self._places = places

    def log_abs_det(self, X: Tabular) -> FloatArray:
        log_abs_dets = [part.log_abs_det(columns) for part, columns in self._blocks(X)]
        return np.sum(log_abs_dets, axis=0)

    def stages(self, X: Tabular) -> Iterator[tuple[Bijection, Tabular]]:
        for part, columns in self._blocks(X):
            yield from part.stages(columns)

    def by_columns(self, X: Tabular) -> tuple[IntArray, FloatArray]:
        places, log_slopes = np.empty(X.shape[1], dtype=int), np.empty(X.shape)
        for (part, columns), (positions, place) in zip(self._blocks(X), self._places, strict=True):
            within, log_slopes[:, positions] = part.by_columns(columns)
            places[positions] = np.arange(X.shape[1])[place][within]
        return places, log_slopes

    def inverse(self, Y: Array) -> tuple[Array, BoolArray]:
        inside = np.ones(len(Y), dtype=bool)
        blocks = []
        for part, (_, place) in zip(self.parts, self._places, strict=True):
            X, in_block = part.inverse(Y[:, place])
            block = np.empty((len(Y), X.shape[1]), dtype=X.dtype)
            block[in_block] = X
            blocks.append(block)
            inside &= in_block
        X = np.empty(Y.shape, dtype=np.result_type(*blocks))  # object if there are labels
        for block, (positions, _) in zip(blocks, self._places, strict=True):
            X[:, positions] = block
        return X[inside], inside

    def _blocks(self, X: Any) -> Iterator[tuple[Bijection, Any]]:
        for part, (positions, _) in zip(self.parts, self._places, strict=True):
            yield part, _safe_indexing(X, positions.tolist(), axis=1)


@bijection_for(ColumnTransformer)
class Columns(SideBySide):
    """The parts of a ColumnTransformer.

    Parameters
    ----------
    transformer : ColumnTransformer
        Fitted; it must use each column exactly once.
    """

    def __init__(self, transformer: BaseEstimator):
        if transformer.transformer_weights is not None:
            raise ValueError(
                "ColumnTransformer(transformer_weights=...) is not supported: leave them out, "
                "since a density needs no weights for its columns."
            )
        parts: list[Bijection] = []
        places: list[tuple[Any, Any]] = []
        used = np.zeros(transformer.n_features_in_, dtype=int)
        names = getattr(transformer, "feature_names_in_", range(len(used)))
        for name, part, columns in transformer.transformers_:
            if name == "remainder":
                positions = np.flatnonzero(used == 0)
            else:
                positions = select_columns(columns, len(used), names, or_none=True)
            if len(positions) == 0 or part == "drop":
                continue
            part = FunctionTransformer() if part == "passthrough" else part
            place = transformer.output_indices_[name]
            if place.stop - place.start != len(positions):
                raise ValueError(
                    f"{name!r} turns {len(positions)} columns into {place.stop - place.start}, "
                    "which has no density: a bijection keeps the number of columns."
                )
            used[positions] += 1
            parts.append(bijection_of(part))
            places.append((positions, place))
        for j in np.flatnonzero(used != 1):
            why = "drops it, so rows that differ only there become equal"
            if used[j] > 1:
                why = "uses it twice, so rows lie on a surface without volume"
            raise ValueError(
                f"ColumnTransformer has no density: column {shown(names[j])} must be used once, "
                f"but it {why}. Give each column one transformer, or remainder='passthrough'."
            )
        super().__init__(transformer, parts, places)
