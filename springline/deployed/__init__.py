"""Deployed manifests in a store: read, checked, and replaced by compare-and-swap (docs/formats.md#deployed-manifest).

Read and written here only. What a manifest says and what may be deployed is judged by `springline.definitions`.
"""
