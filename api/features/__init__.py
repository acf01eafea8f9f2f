"""Optional features: cached answers, batches, webhooks, the doctor. Each is one folder or file, removable alone."""
