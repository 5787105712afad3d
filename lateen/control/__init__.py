"""The coordinator: from sources to snapshot to what each proxy gets."""
