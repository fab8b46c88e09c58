"""What the student's weights begin with, made of another network's: one file each (see
kdx.core.types.Initialiser). The mathematics that they share lies in `_selection.py` (which numbers of the
teacher), `_basis.py` (which directions of its stream) and `_carry.py` (both applied to a network's parts); an
initialiser imports these, and no other one.
"""
