"""The threaded front end: it reads, writes, waits and dispatches; every decision is in the core."""
