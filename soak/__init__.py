"""Long campaigns: kill loops with real processes, simulations from seeds, interrupts, races. ``make soak``."""
