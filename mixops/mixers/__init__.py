"""Mixers: frozen values that draw plans, one file each.

What a mixer needs beside a key (images, saliency) it says itself.
"""
