"""Path metrics: functions `metric(trajectory, tools)` that yield numbers; one file per question."""
