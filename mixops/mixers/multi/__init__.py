"""Mixers of more than two images a row, weighed by constant masks.

Those whose masks follow the pictures are in ``saliency``.
"""
