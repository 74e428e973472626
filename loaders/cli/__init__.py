"""``mixstage`` on the command line, one command a file.

What a command computes it can also be called for from Python.
"""
