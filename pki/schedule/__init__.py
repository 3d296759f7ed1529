"""Run doit on a schedule: a timer of systemd, or lines of a crontab."""
