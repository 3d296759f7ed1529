"""Backing a house up into one file, and restoring it."""
