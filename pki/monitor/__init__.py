"""A look at the whole house that changes nothing."""
