"""The compiled kernel, and small-matrix algebra through it or through LAPACK."""
