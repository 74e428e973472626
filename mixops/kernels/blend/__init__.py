"""The fused pass over the pixels: blend, normalise, cast and lay out.

One kernel for each device, and plain torch as their reference.
"""
