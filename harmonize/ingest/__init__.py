"""Ingest: raw files into a store. find -> describe -> identify -> plan -> write -> commit."""

from harmonize.ingest.convert import Outcome, Progress, convert
from harmonize.ingest.privacy import KeyFileError, ProjectKey, load_key

__all__ = ["KeyFileError", "Outcome", "Progress", "ProjectKey", "convert", "load_key"]
