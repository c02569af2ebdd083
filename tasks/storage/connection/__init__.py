"""The connection to S3: the client, which failures are tried again, and what the others say in our words."""
