"""Mixer's kinds (config.istio.io): handlers, instances, rules, and the parameters of adapters and templates."""
