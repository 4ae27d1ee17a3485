"""Models in SQL, as dbt has them, by DuckDB: each is a query over the tables before it, and replaces its own table.

Dependencies are in the queries: `{orders}` is the table of the asset `orders`.

    springline materialize sql_models.py
"""

import re

import duckdb

from springline.sdk import Asset, Context, asset, checks


def model(name: str, query: str, **options) -> Asset:
    """Declare an asset whose table is what a query returns."""
    upstream = re.findall(r"\{(\w+)\}", query)

    @asset(key=name, deps=upstream, description=query, **options)
    def made(context: Context) -> None:
        with duckdb.connect() as database:
            for one in upstream:
                database.register(one, context.table(one).to_arrow())
            rows = database.execute(query.format_map({one: one for one in upstream})).to_arrow_table()
        context.table(name).overwrite(rows)

    return made


@asset
def orders(context: Context) -> None:
    """Orders as they come in; here by hand."""
    rows = {"order_id": [1, 2, 3, 4], "city": ["Oslo", "Lima", "Oslo", None], "amount": [10.0, 4.0, 6.0, 1.0]}
    context.table("orders").overwrite(rows)


stg_orders = model(
    "stg_orders",
    "SELECT order_id, city, amount FROM {orders} WHERE city IS NOT NULL",
    checks=[checks.unique("order_id"), checks.not_null("city")],
)
revenue = model(
    "revenue",
    "SELECT city, sum(amount) AS amount, count(*) AS orders FROM {stg_orders} GROUP BY city ORDER BY city",
    checks=[checks.sql("positive", "SELECT * FROM rows WHERE amount <= 0")],
)
