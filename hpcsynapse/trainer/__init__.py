"""The built-in trainer: what runs inside the job, one process a rank. Only this package imports torch."""
