"""Converters: raw files to descriptions and blocks of native samples. Imports the schemas only."""
