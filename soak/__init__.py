"""Long campaigns: kill loops with processes, simulations from seeds, interrupts, races. ``make soak``."""
