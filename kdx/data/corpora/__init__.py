"""What only corpora need: documents read and cut into parts, their tokens, and rows that are windows of these."""
