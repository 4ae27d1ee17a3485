"""The published state as files: pointer, manifest, tables, segments, index. Read and written here only.

It knows no rounds: its functions take events and names, and return states and revisions.
"""
