"""The file format: named arrays and text, with a checksum, and no executable content.

The layout is that of safetensors, so any reader of that format shows the content::

    8 bytes    length of the header, little endian
    header     JSON: {"__metadata__": {...}, name: {"dtype", "shape", "data_offsets"}, ...}
    arrays     one after the other, without gaps, little endian, in C order
    32 bytes   SHA-256 of all bytes before, itself an array called "sha256"
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from skemvae._version import __version__
from skemvae.core.arrays import AnyArray
from skemvae.validation import shown

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# Future formats must keep the signature, the metadata and the checksum as they are.
FORMAT = 1
_SIGNATURE = b'{"__metadata__":{"format":"skemvae"'
_CHECKSUM = "sha256"
_CHECKSUM_BYTES = 32
_LENGTH_BYTES = 8
_MOST_DIMENSIONS = 32
_CHUNK_BYTES = 2**20


def storable(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """The dtype in which a file stores arrays of this dtype, or None if it cannot."""
    dtype = dtype.newbyteorder("<")
    return dtype if dtype in _NAMES else None


def file_path(path: Any) -> Path:
    """Convert what a user passed into a path.

    Raises
    ------
    TypeError, ValueError
        If it cannot be the name of a file.
    """
    try:
        named = Path(path)
    except TypeError:
        raise TypeError(f"path={shown(path)} must be a str or a path-like object.") from None
    if "\0" in str(named):
        raise ValueError(f"path={shown(path)} holds the character NUL: no file name may hold it.")
    return named


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, whose file replaces ``path`` unless an error is raised.

    So ``path`` always holds either the old file or the complete new one.
    """
    path = Path(os.path.realpath(path))  # keep a link a link
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no directory {path.parent} to save in.")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, text: dict[str, str], arrays: dict[str, AnyArray]) -> None:
    """Write a new file, and flush it to disk.

    Parameters
    ----------
    path : Path
        Must not exist yet.
    text : dict of str
        Metadata, including the ``skemvae_version`` that writes it.
    arrays : dict of ndarray
        In C order, with ``storable`` dtypes.
    """
    header: dict[str, Any] = {
        "__metadata__": {"format": "skemvae", "format_version": str(FORMAT), **text}
    }
    end = 0
    for name, array in arrays.items():
        header[name] = _entry(_NAMES[array.dtype], array.shape, end, array.nbytes)
        end += array.nbytes
    header[_CHECKSUM] = _entry("U8", (_CHECKSUM_BYTES,), end, _CHECKSUM_BYTES)
    line = json.dumps(header, separators=(",", ":")).encode()
    line += b" " * (-len(line) % _LENGTH_BYTES)
    checksum = hashlib.sha256()
    with path.open("xb") as file:
        length: Any = len(line).to_bytes(_LENGTH_BYTES, "little")
        for part in (length, line, *map(_bytes, arrays.values())):
            checksum.update(part)
            file.write(part)
        file.write(checksum.digest())
        file.flush()
        os.fsync(file.fileno())


def _bytes(array: AnyArray) -> Any:
    """The memory of an array in C order."""
    return array.reshape(-1).view(np.uint8).data


def _entry(dtype: str, shape: tuple[int, ...], start: int, n_bytes: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, start + n_bytes]}


def read(path: Path) -> tuple[dict[str, str], dict[str, AnyArray]]:
    """Return text and arrays of a file.

    Sizes that the header states are compared with the size of the file before
    anything is allocated.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a file of ``write``, or was changed or damaged since.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe could block
        raise ValueError("it is not a regular file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        n_header = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            raise ValueError("it was not written by skemvae.save, or its beginning is damaged")
        _compare_checksum(file, size)
        n_data = size - _LENGTH_BYTES - n_header
        if n_data < _CHECKSUM_BYTES:
            raise ValueError(f"its header of {n_header} bytes does not fit a file of {size}")
        file.seek(_LENGTH_BYTES)
        header = parse(file.read(n_header))
        text = header.pop("__metadata__")
        if not all(isinstance(value, str) for value in text.values()):
            raise ValueError("its metadata are not text")
        if int(text["format_version"]) > FORMAT:
            raise ValueError(
                f"version {shown(text['skemvae_version'])} of skemvae wrote it in format "
                f"{shown(text['format_version'])}, but this is {__version__}, which reads formats "
                f"up to {FORMAT}: upgrade skemvae"
            )
        arrays, end = {}, 0
        for name, entry in header.items():
            dtype, shape, n_bytes = _described(name, entry, end, n_data)
            end += n_bytes
            array = np.empty(shape, dtype)
            if file.readinto(_bytes(array)) != n_bytes:
                raise ValueError("it ends too early")
            if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
                raise ValueError(f"its array {shown(name)} holds other bytes than true and false")
            arrays[name] = array
        if end != n_data or list(arrays)[-1:] != [_CHECKSUM]:
            raise ValueError("its arrays do not fill it")
        del arrays[_CHECKSUM]
        return text, arrays


def _compare_checksum(file: BinaryIO, size: int) -> None:
    """Raise ValueError unless the last bytes are the checksum of all others."""
    file.seek(0)
    checksum, left = hashlib.sha256(), size - _CHECKSUM_BYTES
    while left > 0:
        chunk = file.read(min(_CHUNK_BYTES, left))
        if not chunk:
            break
        checksum.update(chunk)
        left -= len(chunk)
    if file.read(_CHECKSUM_BYTES) != checksum.digest():
        raise ValueError("its checksum is wrong: it is damaged or incomplete")


def _described(
    name: str, entry: Any, start: int, n_data: int
) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Dtype, shape and size in bytes of an array, checked against the size of the file."""
    known = isinstance(entry, dict) and entry.keys() == {"dtype", "shape", "data_offsets"}
    if not known or entry["dtype"] not in _DTYPES:
        raise ValueError(f"its array {shown(name)} is not described as arrays are: {shown(entry)}")
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    # No axis may exceed the size of the file, so that even an empty array is harmless.
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_DIMENSIONS
        or not all(type(n) is int and 0 <= n <= n_data for n in shape)
        or entry["data_offsets"] != [start, start + math.prod(shape) * dtype.itemsize]
        or entry["data_offsets"][1] > n_data
    ):
        raise ValueError(f"its array {shown(name)} cannot be where it says: {shown(entry)}")
    return dtype, tuple(shape), math.prod(shape) * dtype.itemsize


def parse(text: str | bytes) -> Any:
    """Parse strict JSON: no duplicate keys, no NaN.

    Raises
    ------
    ValueError
        If the text is not such JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("its JSON holds a key twice")
    return content


def _refuse(constant: str) -> Callable[[], None]:
    raise ValueError(f"its JSON holds {constant}, which is not valid JSON")
