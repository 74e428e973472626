"""Mixing inside the model: MultiMix before the classifier, manifold mixing of a hidden layer, and their teacher.

Thin torch modules over pure functions.
"""
