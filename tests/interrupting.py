"""Ctrl-C at chosen lines of a call, and what must be as before afterwards."""

import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

import skemvae
from skemvae.engine.passes import threads as parallel

SOURCES = str(Path(skemvae.__file__).parent)


class Struck(KeyboardInterrupt):
    """Tells our interrupts from those of whoever runs the tests."""


class Line(tuple):
    """A line of a file."""

    @classmethod
    def of(cls, frame):
        return cls((frame.f_code.co_filename, frame.f_lineno))

    def __str__(self):
        return f"{Path(self[0]).relative_to(SOURCES)}:{self[1]}"


def _traced(call, visit):
    """Make a call, and ``visit`` the frame at each line of this library."""

    def at_line(frame, event, _):
        if event == "line":
            visit(frame)
        return at_line

    def at_call(frame, event, _):
        return at_line if frame.f_code.co_filename.startswith(SOURCES) else None

    before = sys.gettrace()
    sys.settrace(at_call)
    try:
        return call()
    finally:
        sys.settrace(before)


def lines_of(call):
    """How often a call comes to each line."""
    visits = Counter()
    _traced(call, lambda frame: visits.update([Line.of(frame)]))
    return visits


def strike(call, line, visit):
    """Make a call with an interrupt at the n-th visit of a line.

    Returns whether it came there, and whether the call raised it.
    """
    visits = 0

    def strike_there(frame):
        nonlocal visits
        if Line.of(frame) == line:
            visits += 1
            if visits == visit:
                raise Struck

    try:
        _traced(call, strike_there)
    except KeyboardInterrupt:
        return True, True
    return visits >= visit, False


def surroundings():
    """What a call must leave as it was."""
    found = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    found["NumPy's errors"] = tuple(np.geterr().values())
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.get_num_threads(), torch.is_grad_enabled()
    return found


def check_no_region_is_open():
    assert not parallel._regions.by_thread
    assert not parallel._regions._before
    could_enter = []

    def enter():
        could_enter.append(parallel._regions._lock.acquire(timeout=5))
        parallel._regions._release()

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert could_enter == [True]
