"""One training loop, its optimizers, schedules, data and resumable state."""
