class ManualClock:
    """The time, turned by hand."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def advance(self, seconds: float) -> None:
        self.now += seconds
