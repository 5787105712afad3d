"""What each proxy does, in meaning rather than in Envoy's terms (pure)."""
