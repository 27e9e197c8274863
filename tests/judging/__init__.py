"""Other readers of the same files, each behind one function, to judge what the converters give."""
