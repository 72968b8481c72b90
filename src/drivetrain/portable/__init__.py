"""Runs on the move: out into folders of open formats, and in from those, from mlflow's stores and from wandb's offline folders.

| module | what |
|---|---|
| `folder` | the format: names, checksums, what is safe to read |
| `export` | a server's run → a folder |
| `exported` | a folder → what can be brought in |
| `mlflow`, `mlflow_files`, `mlflow_db` | mlflow's file store and database → the same |
| `bring` | what can be brought in → a server |
| `wandb`, `wandb_log` | wandb's offline folders → a server, as `wandb sync` sends them |
"""
