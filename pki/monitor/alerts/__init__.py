"""Who is told of what health found, when, and how."""
