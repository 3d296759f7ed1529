"""The timeline: what will happen in the next years by pki.yaml, and the calendar file."""
