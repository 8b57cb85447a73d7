"""One module a peer. Each has the roles it can play: ``echo``, ``ask``, ``connect``, ``push``, ``json``, ….

Every role is played the way that peer's own documentation recommends for speed.
"""
