"""The native API under /api/v1: what the command line, jobs and pages speak. One module for each domain."""
