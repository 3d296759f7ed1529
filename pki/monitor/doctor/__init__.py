"""Check a machine before there is a project, and what a project needs of it."""
