"""Compiled arithmetic: numba on the CPU, Triton on CUDA, and plain torch to read.

Kernels check nothing and draw nothing.
"""
