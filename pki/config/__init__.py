"""pki.yaml: its model, the types of its fields, validation, the loader, edits."""
