"""The clock that starts doit: a timer of systemd, or lines of a crontab."""
