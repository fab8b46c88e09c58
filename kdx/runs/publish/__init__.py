"""Runs published after the fact, read from their folders: one file a destination."""
