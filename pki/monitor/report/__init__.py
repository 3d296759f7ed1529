"""What a run, health and Prometheus say of all of it at once."""
