"""Rows that no data set holds, read for a network as those were that it learned from."""
