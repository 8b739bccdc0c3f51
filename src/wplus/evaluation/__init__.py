"""Metrics: functions that yield measurements, each value with the protocol that it was measured by."""
