"""Foundations of the package: files, images, videos, randomness, processes, statistics, results."""
