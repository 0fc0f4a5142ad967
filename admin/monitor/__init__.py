"""What runs now, and what is wrong with it."""
