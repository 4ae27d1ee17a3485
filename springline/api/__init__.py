"""The HTTP surface: authentication, routes, and how refusals become answers."""
