"""The commands: each verb is a function that `entry_point` or `program` decorates, in any module of this package."""
