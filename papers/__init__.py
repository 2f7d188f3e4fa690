"""One script per paper: figures and measurements for the claims of the paper."""
