"""xDS: keeps every proxy in step with what it should have, over delta and state-of-the-world streams."""
