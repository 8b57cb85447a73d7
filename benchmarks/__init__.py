"""linkbox and its peers, side by side. Start: ``make bench``; what each row means: docs/benchmarks.md."""
