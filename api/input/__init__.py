"""How a body becomes a submission: JSON, multipart, raw bytes, v2 tensors, and the limits on each.

Everything here runs before a request is accepted and stores nothing.
"""
