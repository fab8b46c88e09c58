"""Data: splits, views of pictures, and streams of batches."""
