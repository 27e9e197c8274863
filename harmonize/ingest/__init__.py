"""Ingest: raw files into a store. find -> describe -> identify -> plan -> write -> commit."""

from harmonize.ingest.convert import Outcome, convert
from harmonize.ingest.privacy import KeyFileError, ProjectKey, load_key
from harmonize.ingest.scan import Progress

__all__ = ["KeyFileError", "Outcome", "Progress", "ProjectKey", "convert", "load_key"]
