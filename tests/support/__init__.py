"""What the tests share: processes that always end, a real Redis, real workers, a real API, and polling."""
