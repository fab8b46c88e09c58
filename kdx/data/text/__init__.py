"""What only texts need: their tokens, the rows that a loader hands over, and what lies where on disk."""
