"""What compiled code needs around it: compilation, threads, memory, devices.

Nothing here knows of images or plans.
"""
