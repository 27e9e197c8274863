"""Maintain: is a store right, and what must go from it. Above ingest and data, below the command line."""

from harmonize.maintain.forget import Forgotten, forget
from harmonize.maintain.verify import Report, verify

__all__ = ["Forgotten", "Report", "forget", "verify"]
