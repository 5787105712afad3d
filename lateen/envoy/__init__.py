"""From plans to Envoy's messages (pure): one module for each concept of Envoy."""
