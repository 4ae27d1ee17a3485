"""The published state as files: pointer, manifest, tables, segments, index. Read and written here only.

It knows no rounds: what it is given are events and names, what it returns are states and revisions.
"""
