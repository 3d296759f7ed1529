"""Write a project into one backup file, and restore it."""
