"""Other libraries' objects from recordings."""
