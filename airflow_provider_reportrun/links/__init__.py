"""The buttons of tasks."""
