"""The store of an endpoint: spool (outgoing messages) and inbox (incoming messages) in one SQLite file."""
