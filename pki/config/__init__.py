"""Read, validate and edit pki.yaml; the names and certificates that follow from it."""
