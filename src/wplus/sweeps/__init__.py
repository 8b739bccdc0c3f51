"""Sweeps: many runs of one question, launched, continued, and put into one table."""
