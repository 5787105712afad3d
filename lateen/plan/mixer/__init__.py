"""What one proxy does of Mixer's rules: what it decides by itself, what it asks about, what it reports."""
