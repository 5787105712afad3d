"""EnvoyFilter: the user's patches, applied to the messages that the translation made."""
