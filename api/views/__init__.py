"""From records to answers: resources, their schemas and examples, Prometheus text.

Routes read Redis and pass records in. A new field goes into resources and schemas.
"""
