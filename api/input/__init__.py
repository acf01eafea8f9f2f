"""From a body to a submission: JSON, multipart, raw bytes, v2 tensors, and their limits.

Everything here runs before a request is accepted and stores nothing.
"""
