"""Benchmarks behind ``mixstage bench``."""
