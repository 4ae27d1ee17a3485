"""Create the emulator's bucket, which forgets it with every restart: `python create_bucket.py BUCKET`."""

from __future__ import annotations

import os
import sys

import httpx


def main() -> int:
    """Create the bucket at STORAGE_EMULATOR_HOST unless it is there; return the exit code."""
    bucket = sys.argv[1]
    client = httpx.Client(
        base_url=os.environ["STORAGE_EMULATOR_HOST"], timeout=10, transport=httpx.HTTPTransport(retries=5)
    )
    with client:
        answer = client.post("/storage/v1/b", params={"project": "springline"}, json={"name": bucket})
    if answer.status_code not in (httpx.codes.OK, httpx.codes.CONFLICT):
        sys.stderr.write(f"bucket {bucket} cannot be created: {answer.status_code} {answer.text}\n")
        return 1
    sys.stdout.write(f"bucket {bucket} is there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
