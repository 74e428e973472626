"""Augmentation policies with torchvision's names and laws, one file each.

A policy draws operations from uniform numbers and touches no pixel.
"""
