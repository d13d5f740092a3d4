"""What a diffusion transformer is: its family, its native size, where its positions come from."""
