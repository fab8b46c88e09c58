"""Finished stages kept under keys made of what produced them, and the descriptions that keys are made of. No
torch.
"""
