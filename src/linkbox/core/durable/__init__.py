"""What must be on disk, in which order, and what a restart finds."""
