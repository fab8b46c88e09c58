"""A guest of the house: sets of points of any number, behind a mask, of which a network tells several
numbers. Its data, its task, its networks and its view are new files; nothing in kdx knows of it.
"""
