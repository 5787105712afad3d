"""The indexed mesh and every rule of merging and precedence (pure)."""
