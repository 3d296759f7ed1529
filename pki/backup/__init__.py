"""Backing a project up into one file, and restoring it."""
