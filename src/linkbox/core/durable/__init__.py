"""The part of the core for endpoints with a store: what must be on disk, in which order, and the recovery."""
