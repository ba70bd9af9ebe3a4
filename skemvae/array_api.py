"""Conversion of arrays of other libraries, such as torch tensors, to NumPy and back."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from sklearn import get_config

M = TypeVar("M", bound=Callable[..., Any])


def as_numpy(array: Any) -> Any:
    """Convert an array of another library, on any device, to NumPy; return all else unchanged."""
    if isinstance(array, np.ndarray) or not _is_array(array):
        return array
    if _is_tensor(array):
        return array.detach().cpu().numpy()
    if hasattr(array, "get"):  # CuPy
        return array.get()
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError):  # JAX, on a GPU
        return np.asarray(array)


def in_kind(method: M) -> M:
    """Decorate a method that takes rows: pass them as NumPy, and convert the result back.

    As in scikit-learn, the result has the library and device of the rows only with
    ``set_config(array_api_dispatch=True)``.
    """

    @functools.wraps(method)
    def answering(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        rows = as_numpy(X)
        answer = method(self, rows, *args, **kwargs)
        if rows is X or not get_config()["array_api_dispatch"]:
            return answer
        if isinstance(answer, tuple):
            return tuple(_like(one, X) for one in answer)
        return _like(answer, X)

    return cast(M, answering)


def _is_array(X: Any) -> bool:
    return hasattr(X, "__dlpack__") and hasattr(X, "shape")


def _is_tensor(X: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(X, torch.Tensor)


def _like(answer: Any, X: Any) -> Any:
    if type(answer) is not np.ndarray or answer.dtype.kind not in "fiub":  # a frame, or labels
        return answer
    library = sys.modules["torch"] if _is_tensor(X) else X.__array_namespace__()
    return library.asarray(answer, device=X.device)
