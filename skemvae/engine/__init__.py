"""The parts that make fits fast: passes over rows, acceleration, starts. Skip it at first."""
