"""The desired state as artifacts, and artifacts as tasks of doit."""
