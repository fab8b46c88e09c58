"""Folders of picture files: listed, laid out, decoded."""
