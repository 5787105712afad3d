"""From YAML to typed resources (pure)."""
