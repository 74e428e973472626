"""Blending kernels: torch for reading, numba for CPU, Triton for CUDA."""
