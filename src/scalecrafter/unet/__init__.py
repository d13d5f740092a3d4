"""What a U-Net is, and which call of it this is."""
