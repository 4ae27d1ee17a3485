"""What `springline work` is made of: processes that run user code, their pool, and the outputs of attempts.

`child` and `values` run in the processes of attempts and know the library for pipelines; everything else runs in the
worker, which never imports it.
"""
