"""What may be done to a picture between the disk and a network, each a pure function of (seed, row, view)."""
