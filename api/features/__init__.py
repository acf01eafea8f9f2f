"""Optional features: cached answers, batches, webhooks, the doctor, the audit log. Each is one folder or file, removable alone."""
