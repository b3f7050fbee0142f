"""The RPCs of jobs and runs."""
