"""Stages with most of their repetitions left out, timed on the real device in a scratch folder."""
