"""One line on a terminal while a fit takes long, by default; and nothing anywhere else."""

import io
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone

from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM, progress_line
from skemvae.callbacks import CALLBACKS_EXIST
from skemvae.models import FactorModel
from skemvae.progress_line import ProgressLine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).normal(size=(60, 3))
MAX_ITER = 6
ESTIMATORS = {
    "em": EMGaussianMixture(2, max_iter=MAX_ITER, tol=0),
    "mixture": VariationalEM(max_iter=MAX_ITER, tol=0),
    "factors": VariationalEM(FactorModel(1, "student_t"), max_iter=MAX_ITER, tol=0),
    "vae": VAEEstimator(1, max_iter=MAX_ITER, hidden_layer_sizes=()),
}
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()  # not as sys.stderr itself, which pytest sets anew for each phase
    monkeypatch.setattr(progress_line, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return stream


@pytest.fixture(params=[4.0], ids="{}s".format)
def clock(request, monkeypatch):
    """A clock that goes on by so many seconds each time it is looked at."""
    now = SimpleNamespace(seconds=0.0, pace=request.param)

    def monotonic():
        now.seconds += now.pace
        return now.seconds

    monkeypatch.setattr(progress_line.time, "monotonic", monotonic)
    return now


def fit(name, **parameters):
    return clone(ESTIMATORS[name]).set_params(random_state=0, **parameters).fit(X)


def seen(stream):
    """The lines that were shown, and what is left."""
    *shown, left = stream.getvalue().split("\r\x1b[K")
    return [line for line in shown if line], left


@every_estimator
def test_a_long_fit_shows_one_line_and_leaves_nothing_behind(name, terminal, clock, capsys):
    estimator = fit(name)
    lines, left = seen(terminal)
    assert left == ""
    assert len(lines) == estimator.n_iter_
    kind, step = type(estimator).__name__, "epoch" if name == "vae" else "iteration"
    assert lines[0].startswith(f"{kind}: {step} 1 of at most {MAX_ITER}, bound ")
    assert lines[0].endswith(", 4 s, at most 20 s left (verbose=0 hides this)")
    assert "\n" not in terminal.getvalue()
    assert capsys.readouterr().out == ""


@every_estimator
@pytest.mark.parametrize("clock", [0.001, 1.0], indirect=True)
def test_a_short_fit_is_silent(name, terminal, clock):
    fit(name)
    assert terminal.getvalue() == ""


@every_estimator
@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_whoever_chooses_verbose_gets_no_line(name, verbose, terminal, clock):
    fit(name, verbose=verbose)
    assert terminal.getvalue() == ""


@every_estimator
def test_nothing_is_written_where_nobody_looks(name, clock, capsys):
    fit(name)
    assert capsys.readouterr() == ("", "")


def test_later_starts_are_counted(terminal, clock):
    fit("factors", n_init=3)
    lines, _ = seen(terminal)
    assert "4 s, at most 68 s left" in lines[0]  # 17 more iterations
    assert len(lines) == 3 * MAX_ITER


def test_a_line_is_cut_to_the_terminal(terminal, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    fit("em")
    assert {len(line) for line in seen(terminal)[0]} == {19}


@pytest.mark.parametrize("clock", [0.25], indirect=True)
def test_the_line_waits_a_while_and_changes_twice_a_second_at_most(terminal, clock):
    line = ProgressLine(SimpleNamespace(verbose=None))
    for i in range(100):
        line.step(f"step {i}", -1.0, 100 - i)
    line.erase()
    lines, _ = seen(terminal)
    assert lines[0].startswith("SimpleNamespace: step 11, ")
    assert len(lines) == 45


def test_an_error_is_not_written_into_the_line(terminal, clock):
    class Breaks(FactorModel):
        def begin(self, *args):
            fit = super().begin(*args)
            step, n = fit.step, iter(range(3))
            fit.step = lambda state: step(state) if next(n, None) is not None else 1 / 0
            return fit

    with pytest.raises(ZeroDivisionError):
        VariationalEM(Breaks(1, "student_t"), max_iter=9, tol=0, acceleration=None).fit(X)
    lines, left = seen(terminal)
    assert len(lines) == 3
    assert left == ""


def test_threads_are_silent(terminal, clock):
    thread = threading.Thread(target=fit, args=("factors",))
    thread.start()
    thread.join()
    assert terminal.getvalue() == ""


@pytest.mark.skipif(not CALLBACKS_EXIST, reason="scikit-learn < 1.9 has no callbacks")
def test_callbacks_have_the_terminal_for_themselves(terminal, clock):
    from skemvae import BoundMonitor

    fit("em")
    assert terminal.getvalue()
    terminal.truncate(0)
    clone(ESTIMATORS["em"]).set_callbacks(BoundMonitor()).fit(X)
    assert terminal.getvalue().strip("\0") == ""


def test_a_terminal_that_is_gone_ends_no_fit(clock, monkeypatch):
    class Gone(Terminal):
        def write(self, text):
            raise OSError

    monkeypatch.setattr(progress_line, "sys", SimpleNamespace(stderr=Gone()))
    monkeypatch.setenv("TERM", "xterm")
    assert fit("em").n_iter_ == MAX_ITER


@every_estimator
@pytest.mark.parametrize(
    ("verbose", "error"), [(-1, ValueError), ("yes", TypeError), (1.5, TypeError)]
)
def test_a_verbose_that_makes_no_sense_is_named(name, verbose, error):
    with pytest.raises(error, match="verbose"):
        fit(name, verbose=verbose)


@every_estimator
def test_the_default_is_cloned(name):
    assert clone(ESTIMATORS[name]).get_params()["verbose"] is None
