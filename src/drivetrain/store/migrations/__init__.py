"""The steps of the schema, run by `drivetrain.store.migrate`; `scripts/new-revision.py` writes new ones."""
