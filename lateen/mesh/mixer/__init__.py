"""Mixer's rules as they hold: names resolved, expressions typed."""
