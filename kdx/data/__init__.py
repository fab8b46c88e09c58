"""Data: splits, views of rows, and streams of batches."""
