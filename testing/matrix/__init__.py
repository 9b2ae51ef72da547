"""The fault matrix: every fault, in every phase of a job, at the initiator and at a participant (`make faults`)."""
