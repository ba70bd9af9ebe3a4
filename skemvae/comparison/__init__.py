"""Comparison of estimators by the log density of held-out rows."""
