"""Backends of the loader: each executes the draws of a step by an executor of ``pipelines``.

Policy (bad files, waiting) is theirs, pixels are not.
"""
