"""Where fits begin: sketches of tables, divisions of their rows, and races."""
