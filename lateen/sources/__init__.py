"""Where configuration comes from: files, and what runs on this machine."""
