"""Weightings: how far each pseudo-label is believed, the slot `loss.weights`. One method a file; none imports
another.
"""
