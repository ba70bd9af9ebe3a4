"""What a fit learns about a table first: its extent, its resolution, a sample of its rows."""
