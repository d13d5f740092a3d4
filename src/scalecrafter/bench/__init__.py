"""What pictures cost by the clock, method beside method and beside the machine's ceilings."""
