"""How traffic is captured: network namespaces on kernels that allow them, loopback addresses elsewhere.

Kept free of imports: the holder and the launcher start from here and must start fast.
"""
