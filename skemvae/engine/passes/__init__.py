"""Ways to take a pass over rows: NumPy, the compiled kernel, torch on a GPU."""
