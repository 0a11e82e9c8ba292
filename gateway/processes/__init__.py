"""A gateway of several processes: the first one, those that serve, and what they say to one another."""
