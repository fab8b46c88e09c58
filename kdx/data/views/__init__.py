"""What may be done to a row between the disk and a network, each a pure function of (seed, row, view)."""
