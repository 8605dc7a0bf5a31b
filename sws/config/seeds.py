"""What a seed may be."""

MAX_SEED = 2**32 - 1
"""The largest seed. PyTorch's generators take 64 bits, and the one for the order of batches is
seeded with a million times the seed, plus the epoch."""
