"""What makes fits fast: passes over rows, accelerated climbs, starts. Skip it at first."""
