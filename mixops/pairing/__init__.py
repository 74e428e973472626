"""Who is mixed with whom: random blocks, and the matching inside them.

Pixels are looked at only as thumbnails.
"""
