"""What only corpora need: documents cut into parts, their tokens, and rows that are windows of these."""
