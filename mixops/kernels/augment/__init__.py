"""Executors of augmentation plans: Pillow's own functions, which are the reference, and numba.

Whatever is here gives Pillow's bytes; ``mixops.augment.apply`` chooses.
"""
