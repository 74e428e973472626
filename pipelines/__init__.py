"""Where pixels are worked on inside DALI and FFCV: decoding, resizing, mixing, on plain arrays and sizes.

Knows no schedule and no policy.
"""
