"""Mixing stages inside DALI pipelines and FFCV loaders."""
