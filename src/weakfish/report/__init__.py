"""Everything the pipeline leaves behind -> one offline page (`page`), and a summary for a terminal (`summary`)."""
