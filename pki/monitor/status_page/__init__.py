"""The status page `build/report/status.html`: its data, its rendering, and when it is rendered again."""
