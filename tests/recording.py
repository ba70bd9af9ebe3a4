"""A callback that watches a fit."""


class Recorder:
    """Counts tasks, scores what has been fitted so far, and may stop or interrupt the fit.

    ``step`` is what a step of the fit is called.
    """

    def __init__(self, step, stop_after=None, interrupt_after=None):
        self.step = step
        self.begun, self.ended, self.scores = [], [], []
        self.stop_after, self.interrupt_after = stop_after, interrupt_after

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.ended.append(context.task_name)
        if context.task_name == self.step:
            self.scores.append(fitted_estimator.score(X))
            if len(self.scores) == self.interrupt_after:
                raise KeyboardInterrupt
            return len(self.scores) == self.stop_after
        return False
