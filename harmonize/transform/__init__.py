"""Harmonization as views or derived stores. Nothing yet: resampling at read time is in ``harmonize.data``."""
