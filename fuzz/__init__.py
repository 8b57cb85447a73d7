"""Any bytes into every decoder, and whole endpoints in the hands of an attacker: ``make fuzz``."""
