"""Code that knows no PKI: errors, files, locks, processes, times, the terminal, YAML, templates, the cache."""
