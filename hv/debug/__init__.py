"""What helps a person to see why a guest does what it does."""
