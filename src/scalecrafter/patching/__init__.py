"""`apply`, `remove`, `applied`, `plan`: what is put on a live model and taken off again."""
