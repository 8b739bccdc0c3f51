"""Path metrics: functions `metric(trajectory, tools)` that yield numbers, each file one question."""
