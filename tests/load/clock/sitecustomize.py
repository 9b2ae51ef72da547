"""Loaded by Python at its start: `time.time` is ahead by what the file CLOCK_FILE says at each moment."""

import mmap
import os
import time

if path := os.environ.get("CLOCK_FILE"):
    with open(path, "r+b") as file:
        ahead, true = mmap.mmap(file.fileno(), 0), time.time
    time.time = lambda: true() + float(ahead[:])
