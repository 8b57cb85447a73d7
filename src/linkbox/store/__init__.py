"""The durable half of an endpoint: its spool (outgoing) and its inbox (incoming), in one SQLite file."""
