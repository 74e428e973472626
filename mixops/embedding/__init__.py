"""Mixing inside the model: MultiMix before the classifier, manifold mixing of a hidden layer, their teacher,
and the loss that goes with a history.

Thin torch modules over pure functions.
"""
