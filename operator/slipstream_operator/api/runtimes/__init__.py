"""Runtimes as users see them: for each the fields that it brings, and the rules of the fields that it can't use."""
