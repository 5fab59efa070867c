"""Tests that cross rooms: the real binary, a real Postgres, real clients."""
