"""Optional features: cached answers, batches, webhooks, doctor, audit log. Each is one folder or file."""
