"""Reports about the whole project: health, status table, metrics, and what a run does at its end."""
