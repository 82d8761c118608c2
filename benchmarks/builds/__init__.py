"""Answers and accepted tokens that builds keep: `make bench-builds`."""
