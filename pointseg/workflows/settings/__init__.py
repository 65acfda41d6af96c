"""What each task can be told: one dataclass a task, which its command, its documentation and its jobs are derived from."""
