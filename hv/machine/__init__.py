"""The composition root: machines, domains, their consoles and the loop that runs them."""
