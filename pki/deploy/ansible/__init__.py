"""Releases through Ansible: one contact for a whole fleet, on an engine that is there already."""
