"""Pure functions of tensors: re-dilation, dispersion, noise-damped guidance, attention entropy, rotary positions."""
