"""A pass over rows on a torch device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skemvae.core.arrays import Array
from skemvae.core.moments import Moments
from skemvae.core.rows import Rows
from skemvae.core.scan import Scan
from skemvae.engine.passes.sums import SummingPass, Sums
from skemvae.engine.passes.threads import Region
from skemvae.engine.passes.torch_scans import TorchScan, on_device

# Numbers in the largest array of a block (256 MiB), and its fewest and most rows: enough for a GPU
# to spend its time on arithmetic, not on launching kernels.
_BLOCK_NUMBERS = 2**25
_FEWEST_ROWS, _MOST_ROWS = 1024, 2**16


class Block(NamedTuple):
    """Rows on the device; see ``core.rows.Block``."""

    z: Tensor
    weight: Tensor | None

    def cut(self, size: int) -> Iterator[Block]:
        """Yield blocks of at most ``size`` rows."""
        for start in range(0, self.z.shape[1], size):
            where = slice(start, start + size)
            yield Block(self.z[:, where], None if self.weight is None else self.weight[where])


class _DeviceSums(NamedTuple):
    first: Tensor
    second: Tensor
    evidence: Tensor

    def plus(self, other: _DeviceSums) -> _DeviceSums:
        return _DeviceSums(*(a + b for a, b in zip(self, other, strict=True)))


class TorchPasses:
    """Passes in float64 on a device, whose results equal those of NumPy up to rounding.

    Rows are copied to the device once if they take less than half of its free
    memory; otherwise each pass copies them block by block.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._kept: tuple[Rows, Block] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return TorchPasses, (self._device,)  # do not pickle the rows

    def __call__(
        self, log_normaliser: Array, scan: Scan, second_scan: Scan, rows: Rows
    ) -> TorchPass:
        """Choose a pass, as ``fastest_pass``."""
        return TorchPass(log_normaliser, scan, second_scan, self)

    def blocks(self, rows: Rows, size: int) -> Iterator[Block]:
        """Yield the rows on the device, at most ``size`` at a time."""
        kept = self._keep(rows)
        if kept is not None:
            yield from kept.cut(size)
            return
        for _, z, weight in rows.blocks(range(0, rows.n_rows, size)):
            yield Block(self.sent(z), None if weight is None else self.sent(weight))

    def on_device(self, scan: Scan) -> TorchScan:
        """The torch version of a scan, on the device."""
        return on_device(scan, self._device)

    def sent(self, array: Array) -> Tensor:
        """A copy of an array on the device."""
        return torch.tensor(array, dtype=torch.float64, device=self._device)

    def _keep(self, rows: Rows) -> Block | None:
        """All rows on the device, or None if they do not fit."""
        if self._kept is not None and self._kept[0] is rows:
            return self._kept[1]
        self._kept = None  # free this memory before asking how much is free
        shape = (len(rows.frame.origin) + 1, rows.n_rows)
        if 8 * shape[0] * shape[1] > _free_bytes(self._device) / 2:
            return None
        z = torch.empty(shape, dtype=torch.float64, device=self._device)
        for where, part, _ in rows.blocks():
            z[:, where] = torch.from_numpy(part)
        block = Block(z, None if rows.weight is None else self.sent(rows.weight))
        self._kept = (rows, block)
        return block


@dataclass(frozen=True)
class TorchPass(SummingPass):
    """A pass on a device; see ``ScannedPass``.

    Attributes
    ----------
    log_normaliser : array of shape (K,)
    scan : Scan
        Computes the responsibilities.
    second_scan : Scan
        Computes the second moments.
    passes : TorchPasses
        Holds the device, and the rows on it.
    """

    log_normaliser: Array
    scan: Scan
    second_scan: Scan
    passes: TorchPasses

    def sums(self, rows: Rows, region: Region) -> Sums:
        """Compute the sums over all rows; threads do not share a device."""
        constant = self.passes.sent(self.log_normaliser)[:, None]
        scan = self.passes.on_device(self.scan)
        is_one = self.second_scan is self.scan
        second_scan = scan if is_one else self.passes.on_device(self.second_scan)
        width = max(self.scan.width, self.second_scan.width)
        size = min(max(_BLOCK_NUMBERS // width, _FEWEST_ROWS), _MOST_ROWS)
        blocks = self.passes.blocks(rows, size)
        sums = reduce(
            _DeviceSums.plus,
            (_sums_of_block(block, constant, scan, second_scan) for block in blocks),
        )
        first, second, evidence = (each.numpy(force=True) for each in sums)
        return Sums((first, second), float(evidence))

    def moments(self, sums: Sums) -> Moments:
        first, second = sums.arrays
        return self.second_scan.moments(first[:, -1], first[:, :-1], second)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return 0  # on the CPU, keeping rows would only copy them


def _sums_of_block(
    block: Block, log_normaliser: Tensor, scan: TorchScan, second_scan: TorchScan
) -> _DeviceSums:
    z, weight = block
    features = scan.features(z)
    log_joint = scan.squared_distances(features).mul_(-0.5).add_(log_normaliser)
    evidence = log_joint.logsumexp(0)
    # Where p(x) underflows in every state, all have the same weight.
    responsibility = log_joint.softmax(0).nan_to_num_(1 / len(log_joint))
    if weight is not None:
        responsibility *= weight
        evidence *= weight
    if second_scan is not scan:
        features = second_scan.features(z)
    second = second_scan.second(features, responsibility)
    return _DeviceSums(responsibility @ z.T, second, evidence.sum())
