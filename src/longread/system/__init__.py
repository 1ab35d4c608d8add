"""What the machine is and does: seconds, bytes, operations, devices, threads, allocator."""
