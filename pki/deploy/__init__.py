"""Bring each host to its release: build, check, deliver, verify, and record what the host took."""
