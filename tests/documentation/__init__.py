"""The documentation: its generated reference, its pictures, and the site that is built from docs/."""
