"""Attacks of one client, a module for each kind."""
