"""What stands beside requests: cached answers, webhooks, the doctor. Each is one folder or file and may go alone."""
