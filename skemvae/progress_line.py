"""A progress line on a terminal for long fits; it is overwritten in place and finally erased."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
import time
from typing import Any

# Seconds before the first line, and expected duration of a fit below which there is none.
_FIRST, _LONG = 3.0, 10.0
# Seconds between two lines.
_PAUSE = 0.5
_ERASE = "\r\x1b[K"


class ProgressLine:
    """Shows the progress of a fit on stderr.

    Shown if ``verbose`` is None, stderr is a terminal and the fit would take
    more than ten seconds with all its iterations. Not shown in other processes
    and threads, whose lines would mix, nor with callbacks, which may have
    their own display.

    Parameters
    ----------
    estimator : estimator
        With ``verbose``.
    """

    def __init__(self, estimator: Any):
        self._name = type(estimator).__name__
        self._wanted = (
            estimator.verbose is None
            and sys.stderr is not None
            and sys.stderr.isatty()
            and os.environ.get("TERM") != "dumb"
            and multiprocessing.parent_process() is None
            and threading.current_thread() is threading.main_thread()
            and not getattr(estimator, "_skl_callbacks", None)
        )
        self._begin = self._last = time.monotonic()
        self._steps = 0
        self._shown = False

    def step(self, what: str, bound: float, left: int) -> None:
        """Report the end of a step; ``left`` is the largest number of steps still to come."""
        if not self._wanted:
            return
        self._steps += 1
        now = time.monotonic()
        elapsed = now - self._begin
        most_left = elapsed / self._steps * left
        if elapsed < _FIRST or (self._shown and now - self._last < _PAUSE):
            return
        if not self._shown and elapsed + most_left < _LONG:
            return
        self._last, self._shown = now, True
        text = (
            f"{self._name}: {what}, bound {bound:.5g}, {_duration(elapsed)}, "
            f"at most {_duration(most_left)} left (verbose=0 hides this)"
        )
        width = shutil.get_terminal_size().columns - 1
        self._write(_ERASE + text[:width])

    def erase(self) -> None:
        """Erase the line."""
        if self._shown:
            self._shown = False
            self._write(_ERASE)

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):  # a closed terminal must not end the fit
            self._wanted = False


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
