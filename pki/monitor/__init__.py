"""A look at the whole project that changes nothing."""
