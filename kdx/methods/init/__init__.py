"""What the student's weights begin with, made of another network's: one file each (see
kdx.core.types.Initialiser).
"""
