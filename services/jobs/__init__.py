"""Loading: jobs, their runs, and what the runs did. A run ends once, legally, and tells all about it."""
