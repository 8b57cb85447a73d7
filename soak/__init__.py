"""Long campaigns: kill loops with real processes, and simulations from seeds. ``make soak``."""
