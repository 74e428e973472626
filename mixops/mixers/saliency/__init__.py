"""Mixers whose masks follow the pictures, and where their saliency comes from.

Solvers of their masks and moves live beside them.
"""
