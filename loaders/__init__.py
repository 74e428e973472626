"""Replacements for the torchvision DataLoader that mix in the pipeline."""
