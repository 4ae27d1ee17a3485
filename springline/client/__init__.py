"""The library with which data engineers write tables.

from springline.client import Springline

lake = Springline("http://127.0.0.1:8080", token)
flights = lake.create_table("flights", schema=frame, partition_by=["month"])
flights.append(frame)
"""

from springline.client.lake import Springline
from springline.client.table import DeltaTable

__all__ = ["DeltaTable", "Springline"]
