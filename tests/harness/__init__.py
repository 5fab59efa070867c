"""What the tests and the benchmark stand on: a private Postgres, the server's process, packages, clients, raw HTTP."""
