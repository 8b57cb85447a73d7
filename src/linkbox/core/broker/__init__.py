"""What linkbox says to a broker, sans-IO: subjects, circuits, and the links whose far end is a broker."""
