"""Ways to compute a pass over rows: NumPy, the compiled kernel, torch on a GPU."""
