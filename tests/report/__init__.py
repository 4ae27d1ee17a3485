"""The report: what it shows against the rows that it is made of, and the page that it makes."""
