"""Alerts: which findings are worth a message, who was notified of them, and how the message is sent."""
