"""Conversion between Python values and JSON plus arrays.

JSON's own types stand for themselves. Everything else is an object whose
single key gives its type: ``{"tuple": [...]}``, ``{"array": "means_"}``,
``{"Categorical": {...}}``. Two tables list all types, ``_CODECS`` here and
``RECORDS`` in ``registry``; names in a file are never looked up elsewhere.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from skemvae.core.arrays import AnyArray
from skemvae.persistence.checks import Sizes
from skemvae.persistence.container import storable
from skemvae.persistence.records import OwnModelRecord, Record
from skemvae.persistence.registry import RECORDS, is_likelihood, record_of, registered
from skemvae.validation import escaped, gives_zeros_only, shown

_PLAIN = (type(None), bool, int, str)


@dataclass(frozen=True)
class _Codec:
    """A type that is written as a simpler value."""

    type: type
    simpler: Callable[[Any], Any]
    back: Callable[[Any], Any]


def _of_time(time: dt.datetime) -> str:
    if time.tzinfo is not None:
        raise TypeError(f"holds {time!r}: only times without a time zone can be saved")
    return time.isoformat()


def _of_random_state(rng: np.random.RandomState) -> dict[str, Any]:
    state: Any = rng.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise TypeError(f"is a RandomState of {state['bit_generator']}: give an int instead")
    return {**state["state"], "has_gauss": state["has_gauss"], "gauss": state["gauss"]}


def _random_state(state: dict[str, Any]) -> np.random.RandomState:
    key, position = state["key"], state["pos"]
    # NumPy does not check the position, and would read beyond the key.
    if (
        len(state) != 4  # key, pos, has_gauss, gauss
        or key.shape != (624,)
        or key.dtype != np.uint32
        or not 0 <= position <= 624
        or state["has_gauss"] not in (0, 1)
        or not math.isfinite(state["gauss"])
    ):
        raise ValueError("it holds a RandomState that cannot be")
    rng = np.random.RandomState(0)
    rng.set_state(("MT19937", key, position, state["has_gauss"], state["gauss"]))
    if gives_zeros_only(rng):
        raise ValueError("it holds a RandomState that gives zeros only")
    return rng


_CODECS = {
    "float": _Codec(float, str, float),  # not finite; JSON holds all others
    "tuple": _Codec(tuple, list, tuple),
    "slice": _Codec(slice, lambda s: [s.start, s.stop, s.step], lambda ends: slice(*ends)),
    "bytes": _Codec(bytes, bytes.hex, bytes.fromhex),
    "date": _Codec(dt.date, dt.date.isoformat, dt.date.fromisoformat),
    "datetime": _Codec(dt.datetime, _of_time, dt.datetime.fromisoformat),
    "timedelta": _Codec(
        dt.timedelta,
        lambda time: [time.days, time.seconds, time.microseconds],
        lambda parts: dt.timedelta(*parts),
    ),
    "str_": _Codec(np.str_, str, np.str_),
    "RandomState": _Codec(np.random.RandomState, _of_random_state, _random_state),
}
_TAGS = {codec.type: tag for tag, codec in _CODECS.items()}


class Encoder:
    """Turns values into JSON; collects their arrays by name, and user-defined models."""

    def __init__(self) -> None:
        self.arrays: dict[str, AnyArray] = {}
        self.own_models: set[type] = set()

    def encode(self, value: Any, where: str) -> Any:
        """Return the JSON of a value.

        Parameters
        ----------
        value : object
        where : str
            Name of the value, for errors and for its array.

        Raises
        ------
        TypeError
            If the value cannot be saved; the message gives a remedy.
        """
        kind = type(value)
        if kind in _PLAIN or (kind is float and math.isfinite(value)):
            return value
        if kind is list:
            return [self.encode(item, f"{where}.{i}") for i, item in enumerate(value)]
        if kind is dict:
            return {"dict": self._encode_items(value, where)}
        if kind in (np.ndarray, np.memmap):
            return self._encode_array(value, where)
        if kind in _TAGS:
            try:
                simpler = _CODECS[_TAGS[kind]].simpler(value)
            except TypeError as error:
                raise TypeError(f"{escaped(where)} {error}.") from None
            return {_TAGS[kind]: self.encode(simpler, where)}
        if isinstance(value, np.generic) and storable(value.dtype):
            return {"scalar": self._keep(np.asarray(value), where)}
        record = record_of(kind)
        if isinstance(record, OwnModelRecord):
            self.own_models.add(kind)
        if record is not None:
            return {record.tag: self._encode_items(record.state(value), where)}
        _refuse(value, where)

    def _encode_items(self, items: dict[Any, Any], where: str) -> dict[str, Any]:
        for key in items:
            if type(key) is not str:
                raise TypeError(
                    f"{escaped(where)} has the key {shown(key)}: only str can be saved."
                )
        inside = f"{where}." if where else ""
        return {key: self.encode(value, inside + key) for key, value in items.items()}

    def _encode_array(self, array: AnyArray, where: str) -> Any:
        if array.dtype == object:
            items = self.encode(array.ravel().tolist(), where)
            return {"objects": {"shape": list(array.shape), "items": items}}
        if storable(array.dtype) is None:
            raise TypeError(
                f"{escaped(where)} is an array of {shown(array.dtype)}, which cannot be saved: "
                "use a list instead."
            )
        # Keep the memory order: it sets the order of summation, and so the last bit of results.
        if array.flags.f_contiguous and not array.flags.c_contiguous:
            return {"fortran": self._keep(array.T, where)}
        return {"array": self._keep(array, where)}

    def _keep(self, array: AnyArray, name: str) -> str:
        while name in self.arrays or not name:
            name += "'"
        # ascontiguousarray turns a 0-d array into a 1-d one; reshape undoes that.
        dtype = storable(array.dtype)
        self.arrays[name] = np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
        return name


def _refuse(value: Any, where: str) -> NoReturn:
    kind, said = type(value), f"{escaped(where)}={shown(value)}"
    if is_likelihood(kind):
        raise TypeError(
            f"{said} is a likelihood of your own: put its class into "
            "skemvae.likelihoods.LIKELIHOODS, before you save and before you load."
        )
    if callable(value):
        raise TypeError(
            f"{said} is code, which skemvae.save does not store: set the parameter to something "
            "else first, which changes no fitted attribute, or use joblib, whose files must be "
            "trusted."
        )
    raise TypeError(
        f"{said} is a {kind.__module__}.{kind.__qualname__}, which skemvae.save does not know: "
        "give a plain value instead (a number, str, list, array), or use joblib, whose files must "
        "be trusted."
    )


class Decoder:
    """Turns JSON and its arrays back into values.

    Parameters
    ----------
    arrays : dict of ndarray
        Each must be used exactly once.
    models : dict of Record
        Records of user-defined models, by tag.
    """

    def __init__(self, arrays: dict[str, AnyArray], models: dict[str, Record]):
        self._arrays = dict(arrays)
        self._records = {**models, **registered(), **RECORDS}

    def decode(self, node: Any) -> Any:
        """Return the value of a whole document.

        Raises
        ------
        ValueError
            If the document holds anything invalid.
        """
        value = self._decode(node, {})
        if self._arrays:
            raise ValueError(f"nothing refers to its arrays {shown(sorted(self._arrays))}")
        return value

    def _decode(self, node: Any, sizes: Sizes) -> Any:
        if isinstance(node, list):
            return [self._decode(item, sizes) for item in node]
        if not isinstance(node, dict):
            return node
        if len(node) != 1:
            raise ValueError(f"it holds {shown(node)}, which names more or less than one type")
        (tag, content), *_ = node.items()
        if tag == "array":
            return self._take(content)
        if tag == "fortran":
            return self._take(content).T
        if tag == "scalar":
            return self._take(content)[()]
        if tag == "objects":
            array = np.empty(len(content["items"]), dtype=object)
            for i, item in enumerate(content["items"]):  # one by one, or NumPy would unpack tuples
                array[i] = self._decode(item, sizes)
            return array.reshape(content["shape"])
        if tag == "dict":
            return {key: self._decode(value, sizes) for key, value in content.items()}
        if tag in _CODECS:
            return _CODECS[tag].back(self._decode(content, sizes))
        if tag not in self._records:
            raise ValueError(
                f"it holds {shown(tag)}, which is not of skemvae: if it is a model of your own, "
                "give its class in load(path, models=[...]); if it is a likelihood, register it in "
                "skemvae.likelihoods.LIKELIHOODS first"
            )
        record = self._records[tag]
        values = {
            name: self._decode(value, record.sizes_within(name, sizes))
            for name, value in content.items()
        }
        return record.build(values, sizes)

    def _take(self, name: Any) -> AnyArray:
        if name not in self._arrays:
            raise ValueError(f"it refers to an array {shown(name)} that is missing or already used")
        return self._arrays.pop(name)
