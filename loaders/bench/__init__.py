"""Benchmarks behind ``mixstage bench``.

Every figure stands beside a peer and a physical limit, measured in the same run.
"""
