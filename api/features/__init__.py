"""Optional features: cached answers, batches, webhooks, doctor, audit log. Each is a folder or file, removable alone."""
