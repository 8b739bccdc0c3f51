"""What a path is measured by: functions `metric(trajectory, tools)` that yield numbers, each file one question."""
