"""What a picture costs before it is made: operations counted on the meta device, seconds and memory from them."""
