"""What a workspace deploys: assets, their dependencies and partitions, as values and rules. Pure.

The library that data engineers write with (`springline.sdk`) and the server share it, so that a pipeline file is
judged by the same rules on a laptop and at a deploy. Modules that the library needs import neither Pydantic nor orjson,
because importing the library must be quick. See docs/formats.md#deployed-manifest.
"""
