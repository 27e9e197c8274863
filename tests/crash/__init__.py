"""Conversions that are killed: ``PYTHONPATH=tests python -m crash`` (issue 5, point 3)."""
