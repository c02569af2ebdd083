"""What Prefect imports when the first flow runs, and we when a store is opened."""

LATE = (
    "anyio._backends._asyncio", "boto3.s3.inject", "botocore.retries.standard", "fastapi.encoders", "obstore.store",
    "prefect.engine", "prefect.flow_engine", "prefect.task_engine", "prefect.utilities.visualization",
)  # fmt: skip
