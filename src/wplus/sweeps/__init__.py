"""Sweeps: launching and resuming many runs that answer one question, and summarizing them in a table."""
