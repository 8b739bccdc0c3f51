"""What everything stands on: files, images, videos, randomness, processes, statistics, results."""
