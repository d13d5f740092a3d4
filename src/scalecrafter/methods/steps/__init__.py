"""The steps that methods are made of: noise, denoising, decoding, and the passes of a picture."""
