"""The rules of jobs, runs, leases and logs, as functions on a session."""
