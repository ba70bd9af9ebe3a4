"""The E steps that fits take on rows in memory, to count or to interrupt."""

from skemvae.core.em import MixtureEM
from skemvae.engine.climbs import whole_steps as compiled_em
from skemvae.kernel import native

# The class whose ``start`` each of them goes through.
SteppingEM = MixtureEM if native.level is None else compiled_em.CompiledEM


def watch(monkeypatch, visit):
    """Call ``visit`` with the number of rows before each E step, races between starts included.

    Where the kernel climbs alone, before it begins, once for each step that it may take.
    """
    start, steps = SteppingEM.start, compiled_em._steps

    def watched_start(em, model):
        visit(em.table.n_rows)
        with monkeypatch.context() as inside:
            inside.setattr(compiled_em, "_steps", steps)
            return start(em, model)

    def watched_steps(level, models, rows, n_iter, tol):
        for _ in range(len(models) * (n_iter + 1)):
            visit(rows.n_rows)
        return steps(level, models, rows, n_iter, tol)

    monkeypatch.setattr(SteppingEM, "start", watched_start)
    monkeypatch.setattr(compiled_em, "_steps", watched_steps)
