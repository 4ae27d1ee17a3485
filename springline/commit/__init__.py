"""The commit protocol's steps over an object store, shared by activities, CLI recovery and tests."""
