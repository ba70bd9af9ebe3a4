"""``BoundMonitor``: log the bound and a held-out score of each step of a fit, and stop it."""

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
    """What a ``BoundMonitor`` logged of one outermost call of ``fit``.

    Attributes
    ----------
    run_id : str
        Identifies the call.
    estimator_name : str
        Class of the outermost estimator, such as "GridSearchCV".
    timestamp : str
        When the call began, in UTC.
    data : list of dict
        One dict for each step, in the order of the tasks: ``task_id_path`` from
        the outermost task to the step, ``parent_task_id_path`` (the same for
        all steps of one start), ``estimator_name``, ``task_name``
        ("iteration" or "epoch"), ``task_id`` (from 0), ``bound`` and ``score``
        of ``X_val`` (None if not computed), both in nats per sample and the
        units of X, and ``seconds`` since the loop began. The bound is the one
        that the fit uses for stopping: after the step, on the training rows
        or on the rows that a VAE itself holds out.
    """

    run_id: str
    estimator_name: str
    timestamp: str
    data: list[StepRecord]

    def to_frame(self) -> DataFrame:
        """Return the steps as a pandas DataFrame.

        Returns
        -------
        DataFrame
            One row for each step, one column for each key of ``data``.
        """
        pd = require("pandas", purpose="BoundLog.to_frame")

        return pd.DataFrame(self.data)


class BoundMonitor:
    """Callback that logs the bound of each iteration or epoch, and can stop the fit.

    Set it on ``EMGaussianMixture``, ``VariationalEM`` or ``VAEEstimator``
    itself, also if that is a step of a Pipeline or the estimator of a search,
    with any number of jobs. One monitor can watch several fits. Needs
    scikit-learn 1.9; with older versions, ``verbose=2`` prints the bound.

    Parameters
    ----------
    X_val : array-like of shape (n_samples, n_features), default=None
        Held-out rows, whose score is logged. They are passed to the estimator
        unchanged, so in a Pipeline they must already be transformed.
    every : int, default=1
        Number of steps from one score to the next. Scoring a VAE takes time.
    patience : int, default=None
        Stop after this many scores in a row that do not exceed the best one
        before them. Needs ``X_val``.
    stop : callable, default=None
        ``stop(steps)`` is called after each step with the list of dicts of
        this start, as in ``BoundLog.data``; the start stops if it returns
        True.

    Notes
    -----
    A stopped fit has ``status_ == "stopped_by_callback"`` and the parameters
    of its last iteration, or of the best epoch for a VAE. Each of several
    starts is stopped separately. (scikit-learn's own ``ScoringMonitor`` logs
    nothing without y.)

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
                raise ValueError(f"patience={patience} needs a held-out score: pass X_val.")
        if stop is not None and not callable(stop):
            raise TypeError(f"stop={stop!r} must be callable: stop(steps) -> bool.")
        self.X_val = X_val
        self.every = every
        self.patience = patience
        self.stop = stop
        self._journal = _Journal()
        self._loops: dict[Any, list[StepRecord]] = {}

    def get_logs(self, select: str = "most_recent") -> BoundLog | list[BoundLog]:
        """Return the log of one or all calls of ``fit``.

        Parameters
        ----------
        select : {"most_recent", "all"}, default="most_recent"
            The last outermost call of ``fit``, or all of them.

        Returns
        -------
        BoundLog or list of BoundLog
            A list is in the order of the calls.

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
        """Do nothing; nothing needs to be prepared.

        Parameters
        ----------
        estimator : estimator
            Estimator to be fitted.
        context : CallbackContext
            Its outermost task.
        """

    def on_fit_task_begin(self, estimator: BaseEstimator, context: CallbackContext) -> None:
        """Do nothing; only the end of a task is logged.

        Parameters
        ----------
        estimator : estimator
            Estimator being fitted.
        context : CallbackContext
            The task.
        """

    def on_fit_task_end(self, estimator: BaseEstimator, context: CallbackContext) -> bool:
        """Log the task if it is a step.

        Parameters
        ----------
        estimator : estimator
            Estimator being fitted.
        context : CallbackContext
            The task.

        Returns
        -------
        bool
            Whether to stop the loop that the step belongs to.
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
        """Free the steps of this fit; the log stays.

        Parameters
        ----------
        estimator : estimator
            Estimator that was fitted.
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
    """The tasks from the outermost one to this one."""
    parents = [] if context.parent is None else _lineage(context.parent)
    return [*parents, context]


class _Journal:
    """Records that an object shares with its copies in other processes.

    Each process appends to its own file, in a directory that is removed together
    with the object that made it. A copy that lives longer makes a new directory.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="skemvae-"))
        weakref.finalize(self, _remove, self._directory, os.getpid())

    def write(self, record: Any) -> None:
        """Append a record that JSON can express."""
        if not self._directory.exists():
            self._begin()
        with open(self._directory / f"{os.getpid()}.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")  # one write, to be safe with threads

    def read(self) -> list[Any]:
        """All records of all processes."""
        files = sorted(self._directory.glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def _remove(directory: Path, process: int) -> None:
    if os.getpid() == process:  # not in a forked child
        shutil.rmtree(directory, ignore_errors=True)
