"""The 17 projection tables: their schema, the fold, files, manifest and digest. Pure (specs E 3-5, S 2, design 4)."""
