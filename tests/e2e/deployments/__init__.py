"""The deployments, on one running server."""
