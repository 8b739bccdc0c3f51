"""Metrics: functions that yield measurements, each with the protocol it was measured under."""
