"""EM in few passes: quasi-Newton steps, sampling, and whole steps in the kernel."""
