"""From a command line to plain values, and from these to the objects of a run."""
