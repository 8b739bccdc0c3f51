"""Base of everything else: files, images, videos, randomness, processes, statistics, results."""
