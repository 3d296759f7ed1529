"""A network of one's own in namespaces, real servers in it, and the story that they tell."""
