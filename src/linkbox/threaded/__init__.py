"""The threaded front end: waits, wakes, reads and writes. Protocol decisions belong in the core."""
