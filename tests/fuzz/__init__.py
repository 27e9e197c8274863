"""Damaged files in the thousands: ``PYTHONPATH=tests python -m fuzz`` (issue 4, point 5)."""
