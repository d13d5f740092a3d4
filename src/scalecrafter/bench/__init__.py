"""What pictures cost: counted in floating-point operations, and measured by the clock beside the machine's ceilings."""
