"""Where samples come from: folders, tar shards, .beton files.

A source knows names, labels and sizes, and reads one sample at a time.
"""
