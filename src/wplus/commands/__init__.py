"""The commands: each verb is a function decorated with `entry_point` or `program`, in any module of this package."""
