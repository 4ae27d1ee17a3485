"""A pipeline with sensors: files that land, messages that are pushed, and a table that somebody else writes.

springline deploy sensors.py
springline work sensors.py
springline sensor list
springline sensor push orders '{"order": 17}' --message-id order-17
"""

from pathlib import Path

from springline.sdk import Context, RunRequest, SensorContext, SensorResult, asset, sensor, table_sensor

LANDING = Path("/var/landing")


@asset
def sales(context: Context) -> None:
    """Reads the file that the sensor has found."""
    context.log.info("reading %s", context.config["file"])


@asset
def order(context: Context) -> None:
    """Makes one order."""
    context.log.info("order %s", context.config["order"])


@asset
def report() -> None:
    """Is made when the table of prices has a new version."""


@sensor(every="10s", select=sales)
def new_files(context: SensorContext) -> SensorResult:
    """Asks for a run for each new file, at most a hundred at once, in the order of their names."""
    names = sorted(one.name for one in LANDING.glob("*.csv") if context.cursor is None or one.name > context.cursor)
    found = names[:100]
    requests = [RunRequest(run_key=name, config={"file": name}) for name in found]
    return SensorResult(requests, cursor=found[-1] if found else None, skip_reason=None if found else "no new file")


@sensor(push=True, select=order)
def orders(context: SensorContext) -> RunRequest | None:
    """Asks for a run for each order that is pushed."""
    assert context.message is not None
    number = context.message.payload["order"]
    return RunRequest(run_key=str(number), config={"order": number}) if number > 0 else None


new_prices = table_sensor("new_prices", table="prices", select=report)
