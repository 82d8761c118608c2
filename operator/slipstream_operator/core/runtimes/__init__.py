"""Runtimes: for each engine program one file, which holds everything that the operator decides by it."""
