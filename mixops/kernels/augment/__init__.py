"""Executors of augmentation plans: Pillow's own functions (the reference) and numba."""
