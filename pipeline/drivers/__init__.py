"""What speaks to programs, processes and machines: adb, ssh, benchmark_model, and the workers."""
