"""Estimators, compared by the log density of rows that they have not seen."""
