"""Checks, probes, alerts, metrics, the status page and the timeline: what the program reports about a project."""
