"""What happens to one image between its decoder and the mix: crops, flips, operations, erasing.

Laws draw from a key; executors draw nothing.
"""
