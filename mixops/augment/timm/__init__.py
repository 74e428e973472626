"""timm's policies: its tables, its laws, and the strings that say them.

They differ from torchvision's of the same names in tables, probabilities and magnitudes.
"""
