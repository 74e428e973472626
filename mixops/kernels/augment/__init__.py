"""Executors of augmentation plans: Pillow's own functions, which are the reference, numba, and Triton.

Whatever is here gives Pillow's bytes; ``mixops.augment.apply`` chooses.
"""
