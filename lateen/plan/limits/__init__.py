"""What one proxy counts, and what it refuses above it."""
