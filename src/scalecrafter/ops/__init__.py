"""The method as pure functions of tensors: re-dilation, dispersion, noise-damped guidance, attention entropy."""
