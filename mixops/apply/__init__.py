"""Plans applied to images, targets and label maps, without any randomness.

Each function chooses a kernel and checks what it gets.
"""
