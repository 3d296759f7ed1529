"""What knows no PKI: errors, files, times, the terminal, YAML, templates, the cache."""
