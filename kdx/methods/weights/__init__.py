"""Weightings: the weight of each pseudo-label, the slot `loss.weights`. One method a file; none imports
another.
"""
