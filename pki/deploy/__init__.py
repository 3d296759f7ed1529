"""A release on its way to a host: built, delivered, compared with what the host took."""
