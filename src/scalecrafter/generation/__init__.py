"""From a `Request` to a `Result`."""
