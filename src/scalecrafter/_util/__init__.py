"""Small tools that know nothing of diffusion: files, text, sizes, memory, optional packages."""
