"""What a person starts: the collections of `invoke`."""
