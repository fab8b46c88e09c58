"""Studies of the mathematics alone, without networks."""
