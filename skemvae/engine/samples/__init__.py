"""What a fit knows of a table beforehand: its extent, its resolution, a sample of its rows."""
