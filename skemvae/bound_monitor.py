"""``BoundMonitor``: the bound and a held-out score of each step of a fit, and when to stop it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Integral
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils import check_scalar

from skemvae.callbacks import CALLBACKS_EXIST, ended_step
from skemvae.optional import require
from skemvae.typing import CallbackContext, DataFrame, MatrixLike, StepRecord
from skemvae.validation import check_choice


@dataclass(frozen=True)
class BoundLog:
    """What a ``BoundMonitor`` saw of one outermost call of ``fit``.

    Attributes
    ----------
    run_id : str
        Identifies the call.
    estimator_name : str
        Class of the outermost estimator, such as "GridSearchCV".
    timestamp : str
        When the call began, in UTC.
    data : list of dict
        A dict for each step, in the order of the tasks: ``task_id_path`` from
        the outermost task to the step, ``parent_task_id_path`` (the same for
        all steps of one start), ``estimator_name``, ``task_name``
        ("iteration" or "epoch"), ``task_id`` (from 0), ``bound``, ``score`` of
        ``X_val`` (None where it was not asked for), both in nats per sample and
        the units of X, and ``seconds`` since the loop began. The bound is the
        one that the fit watches: on the training rows at the parameters after
        the step, or on the rows that a VAE itself holds out.
    """

    run_id: str
    estimator_name: str
    timestamp: str
    data: list[StepRecord]

    def to_frame(self) -> DataFrame:
        """The steps as a pandas DataFrame.

        Returns
        -------
        DataFrame
            A row for each step, a column for each key of ``data``.
        """
        pd = require("pandas", purpose="BoundLog.to_frame")

        return pd.DataFrame(self.data)


class BoundMonitor:
    """Callback that logs the bound of each iteration or epoch, and may stop the fit.

    Set it on ``EMGaussianMixture``, ``VariationalEM`` or ``VAEEstimator``
    itself, also where these are steps of a Pipeline or candidates of a
    search, with any number of jobs: one monitor may watch them all. Needs
    scikit-learn 1.9; before, ``verbose=2`` prints the bound.

    Parameters
    ----------
    X_val : array-like of shape (n_samples, n_features), default=None
        Held-out rows, whose score is logged. They are passed to the estimator
        as they are: within a Pipeline they must be transformed already.
    every : int, default=1
        Number of steps from one score to the next; scores of a VAE take time.
    patience : int, default=None
        Stop when that many scores, one after the other, do not exceed the
        best before them. Needs ``X_val``.
    stop : callable, default=None
        ``stop(steps)`` is called after each step with a list of the dicts of
        ``BoundLog.data``, those of this start; a true answer stops it.

    Notes
    -----
    A fit that was stopped has ``status_ == "stopped_by_callback"`` and the
    parameters of its last iteration, a VAE those of its best epoch. Among
    several starts each is stopped for itself. (scikit-learn's own
    ``ScoringMonitor`` logs nothing where there is no y.)

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.model_selection import train_test_split
    >>> from skemvae import BoundMonitor, EMGaussianMixture
    >>> X, X_val = train_test_split(load_breast_cancer().data[:, :6], random_state=0)
    >>> monitor = BoundMonitor(X_val, patience=3)
    >>> mixture = EMGaussianMixture(8, tol=1e-5, random_state=0)
    >>> mixture = mixture.set_callbacks(monitor).fit(X)
    >>> mixture.status_
    'stopped_by_callback'
    >>> steps = monitor.get_logs().data
    >>> bool(steps[-1]["bound"] > steps[0]["bound"])  # on training rows
    True
    >>> bool(steps[-1]["score"] < max(step["score"] for step in steps))  # on held-out rows
    True
    """

    def __init__(
        self,
        X_val: MatrixLike | None = None,
        *,
        every: int = 1,
        patience: int | None = None,
        stop: Callable[[list[StepRecord]], bool] | None = None,
    ):
        if not CALLBACKS_EXIST:
            raise ImportError(
                "BoundMonitor needs the callbacks of scikit-learn 1.9: update scikit-learn, or set "
                "verbose=2 on the estimator to print the bound."
            )
        check_scalar(every, "every", Integral, min_val=1)
        if patience is not None:
            check_scalar(patience, "patience", Integral, min_val=1)
            if X_val is None:
                raise ValueError(f"patience={patience} waits for a held-out score: pass X_val.")
        if stop is not None and not callable(stop):
            raise TypeError(f"stop={stop!r} must be callable: stop(steps) -> bool.")
        self.X_val = X_val
        self.every = every
        self.patience = patience
        self.stop = stop
        self._journal = _Journal()
        self._loops: dict[Any, list[StepRecord]] = {}

    def get_logs(self, select: str = "most_recent") -> BoundLog | list[BoundLog]:
        """Return what was logged.

        Parameters
        ----------
        select : {"most_recent", "all"}, default="most_recent"
            The last outermost call of ``fit``, or all of them.

        Returns
        -------
        BoundLog or list of BoundLog
            The first call first.

        Raises
        ------
        ValueError
            If nothing was logged.
        """
        check_choice("select", select, {"most_recent", "all"})
        runs: dict[str, tuple[dict[str, str], list[StepRecord]]] = {}
        for record in self._journal.read():
            step = record["step"]
            for key in ("task_id_path", "parent_task_id_path"):
                step[key] = tuple(step[key])
            runs.setdefault(record["run"]["run_id"], (record["run"], []))[1].append(step)
        if not runs:
            raise ValueError(
                "No bounds were logged: set the monitor on an estimator of skemvae with "
                "set_callbacks, and fit it."
            )
        logs = [
            BoundLog(data=sorted(steps, key=lambda step: step["task_id_path"]), **run)
            for run, steps in runs.values()
        ]
        logs.sort(key=lambda log: log.timestamp)
        return logs if select == "all" else logs[-1]

    # What scikit-learn calls.

    def setup(self, estimator: BaseEstimator, context: CallbackContext) -> None:
        """Nothing is prepared.

        Parameters
        ----------
        estimator : estimator
            About to be fitted.
        context : CallbackContext
            Its outermost task.
        """

    def on_fit_task_begin(self, estimator: BaseEstimator, context: CallbackContext) -> None:
        """Nothing is logged of a task that begins.

        Parameters
        ----------
        estimator : estimator
            Being fitted.
        context : CallbackContext
            The task.
        """

    def on_fit_task_end(self, estimator: BaseEstimator, context: CallbackContext) -> bool:
        """Log the task if it is a step.

        Parameters
        ----------
        estimator : estimator
            Being fitted.
        context : CallbackContext
            The task.

        Returns
        -------
        bool
            Whether to stop the loop that it is a step of.
        """
        ended = ended_step(context)
        if ended is None:
            return False
        lineage = _lineage(context)
        path = tuple(task.task_id for task in lineage)
        steps = self._loops.setdefault((context.root_uuid, path[:-1]), [])
        scored = self.X_val is not None and (len(steps) + 1) % self.every == 0
        step: StepRecord = {
            "task_id_path": path,
            "parent_task_id_path": path[:-1],
            "estimator_name": context.estimator_name,
            "task_name": context.task_name,
            "task_id": context.task_id,
            "bound": ended.bound,
            "score": ended.fitted().score(self.X_val) if scored else None,
            "seconds": (datetime.now(UTC) - context.parent.init_time).total_seconds(),
        }
        steps.append(step)
        run = {
            "run_id": str(context.root_uuid),
            "estimator_name": lineage[0].estimator_name,
            "timestamp": lineage[0].init_time.isoformat(),
        }
        self._journal.write({"run": run, "step": step})
        return self._has_run_out_of_patience(steps) or bool(self.stop and self.stop(list(steps)))

    def teardown(self, estimator: BaseEstimator, context: CallbackContext) -> None:
        """Forget the loops of this fit; the log stays.

        Parameters
        ----------
        estimator : estimator
            It was fitted.
        context : CallbackContext
            Its outermost task.
        """
        path = tuple(task.task_id for task in _lineage(context))
        for run, loop in list(self._loops):
            if run == context.root_uuid and loop[: len(path)] == path:
                del self._loops[run, loop]

    def _has_run_out_of_patience(self, steps: list[StepRecord]) -> bool:
        scores = [step["score"] for step in steps if step["score"] is not None]
        n = self.patience
        return n is not None and len(scores) > n and max(scores[-n:]) <= max(scores[:-n])


def _lineage(context: Any) -> list[Any]:
    """The tasks from the outermost to this one."""
    parents = [] if context.parent is None else _lineage(context.parent)
    return [*parents, context]


class _Journal:
    """Records that an object shares with its copies in other processes.

    Each process appends to a file of its own, in a directory that goes with the
    object that made it. A copy that outlives it begins anew.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="skemvae-"))
        weakref.finalize(self, _remove, self._directory, os.getpid())

    def write(self, record: Any) -> None:
        """Append a record, which JSON can express."""
        if not self._directory.exists():
            self._begin()
        with open(self._directory / f"{os.getpid()}.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")  # in one piece, for threads

    def read(self) -> list[Any]:
        """All records, of all processes."""
        files = sorted(self._directory.glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def _remove(directory: Path, process: int) -> None:
    if os.getpid() == process:  # a forked child is not the owner
        shutil.rmtree(directory, ignore_errors=True)
