"""Mixer: what answers the checks of proxies, counts quotas and takes in reports, by rules and through adapters.

It is a process of its own beside the control plane, because it stands on the way of requests.
"""
