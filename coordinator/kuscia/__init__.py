"""Kuscia mode: what the coordinator does where Kuscia, and not Ray, carries a job between institutions."""
