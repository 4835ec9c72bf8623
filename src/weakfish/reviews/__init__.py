"""People in the loop: which rows to ask about, what their answers say, and what comes of them."""
